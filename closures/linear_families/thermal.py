"""Steady heat in a block with a slot: Laplace's equation, random temperatures at two sides, the rest insulated.

Wang et al. (2024), arXiv 2401.09516: the block is 1 x 1.6, the slot 0.1 x 0.8 in its middle; the left temperature is
uniform in (0, 100), the right one in (-100, 0) (their text), or the outward flux uniform in (0, 100) (their code). In
three dimensions the block is 1 deep and the slot reaches through the middle half of it. One matrix for all samples.
"""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import numpy as np
from scipy.sparse import csr_array

from closures.linear_families.family import Parameters
from closures.linear_families.sequences.system import System
from closures.linear_families.volumes import Face, Side, Volumes
from solver.errors import CaseError

LENGTHS = (1.0, 1.6, 1.0)


class Thermal:
    """The family on ``(20 q, 4 p)`` or ``(20 q, 4 p, 4 r)`` cells.

    Raises
    ------
    CaseError : the slot does not fit the cells.
    """

    name, unknown = "thermal", "temperature"

    def __init__(self, shape: tuple[int, ...], right: Literal["temperature", "flux"] = "temperature") -> None:
        if shape[0] % 20 or any(n % 4 for n in shape[1:]):
            raise CaseError(
                f"[family] shape = {list(shape)}: the slot fits multiples of 20 in x and of 4 in the other directions"
            )
        self.right = right
        x, y = shape[0] // 20, shape[1] // 4
        solid = np.zeros(shape, bool)
        deep = (slice(shape[2] // 4, 3 * shape[2] // 4),) if len(shape) == 3 else ()
        solid[(slice(9 * x, 11 * x), slice(y, 3 * y), *deep)] = True
        insulated: tuple[Side, Side] = ("flux", "flux")
        ends: tuple[Side, Side] = ("value", "value" if right == "temperature" else "flux")
        lengths = LENGTHS[: len(shape)]
        self.volumes = Volumes(shape, lengths, (ends,) + (insulated,) * (len(shape) - 1), solid)
        self.ones = np.ones(shape)

    @property
    def default_method(self) -> str:
        """Two solutions span the family; a factorisation finds them in two dimensions, in three it fills."""
        return "direct+guess" if self.volumes.ndim == 2 else "cg+jacobi+guess"

    @cached_property
    def matrix(self) -> csr_array:
        """The operator of every sample."""
        return self.volumes.matrix(self.ones)

    def draw(self, rng: np.random.Generator) -> Parameters:
        """What is prescribed at the left and at the right."""
        left, right = rng.uniform(0, 100), rng.uniform(-100, 0)
        return {"left_temperature": np.array(left), f"right_{self.right}": np.array(right)}

    def likeness(self, parameters: Parameters) -> np.ndarray:
        """The two numbers."""
        return np.array([parameters["left_temperature"], parameters[f"right_{self.right}"]])

    def sides(self, parameters: Parameters) -> dict[Face, float]:
        """Boundary data of a sample; a flux counts into the block."""
        return {(0, 0): float(parameters["left_temperature"]), (0, 1): float(parameters[f"right_{self.right}"])}

    def system(self, parameters: Parameters) -> System:
        """Positive definite; no box of its own, so no fast inverse."""
        rhs = self.volumes.right_hand_side(self.ones, 0.0, self.sides(parameters))
        return System(self.matrix, rhs, definite=True)
