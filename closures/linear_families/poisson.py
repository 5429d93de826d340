"""Poisson: ``-lap u = f`` on the unit box; f and the values on the sides are random Chebyshev sums of degree 5.

Wang et al. (2024), arXiv 2401.09516, appendix D: coefficients uniform in (-1, 1); f varies along x alone, and each
side along its own coordinates (in three dimensions: one sum for each). The matrix is the same for all samples.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.polynomial.chebyshev import chebval
from scipy.sparse import csr_array

from closures.linear_families.family import Parameters, unit_box
from closures.linear_families.sequences.fast_box import FastBox
from closures.linear_families.sequences.system import System
from closures.linear_families.volumes import Face

DEGREE = 5


class Poisson:
    """The family on a grid of any dimension."""

    name, unknown = "poisson", "potential"

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.volumes = unit_box(shape)
        self.box = FastBox(shape, self.volumes.spacing, self.volumes.sides)
        self.ones = np.ones(shape)

    @property
    def default_method(self) -> str:
        """All samples share their matrix: in a plane its factors are small, and cheaper than two transforms."""
        return "direct" if self.volumes.ndim == 2 else "cg+fft"

    @cached_property
    def matrix(self) -> csr_array:
        """The operator of every sample."""
        return self.volumes.matrix(self.ones)

    @property
    def faces(self) -> list[Face]:
        """Sides in the order of their coefficients."""
        return [(axis, end) for axis in range(self.volumes.ndim) for end in (0, 1)]

    def draw(self, rng: np.random.Generator) -> Parameters:
        """Coefficients of f, ``(6,)``, and of the sides, ``(2 d, d - 1, 6)``; and f as a field."""
        d = self.volumes.ndim
        source = rng.uniform(-1, 1, DEGREE + 1)
        sides = rng.uniform(-1, 1, (2 * d, d - 1, DEGREE + 1))
        field = chebval(2 * self.volumes.centres()[0] - 1, source) * self.ones
        return {"source_coefficients": source, "side_coefficients": sides, "source": field}

    def likeness(self, parameters: Parameters) -> np.ndarray:
        """All coefficients in a row."""
        return np.concatenate([parameters[f"{name}_coefficients"].ravel() for name in ("source", "side")])

    def sides(self, parameters: Parameters) -> dict[Face, np.ndarray]:
        """Values at the boundary faces."""
        centres, found = self.volumes.centres(), {}
        for (axis, end), sums in zip(self.faces, parameters["side_coefficients"], strict=True):
            along = [2 * np.squeeze(x, axis) - 1 for i, x in enumerate(centres) if i != axis]
            found[axis, end] = sum(
                (chebval(x, c) for x, c in zip(along, sums, strict=True)), np.zeros(self._face_shape(axis))
            )
        return found

    def _face_shape(self, axis: int) -> tuple[int, ...]:
        return self.volumes.shape[:axis] + self.volumes.shape[axis + 1 :]

    def system(self, parameters: Parameters) -> System:
        """Positive definite; nearby is the operator itself."""
        rhs = self.volumes.right_hand_side(self.ones, parameters["source"], self.sides(parameters))
        return System(self.matrix, rhs, definite=True, nearby=self.box.inverse())
