"""Helmholtz: ``-div(K grad u) - k^2 u = 1`` on the unit box, u = 0 around.

Two media. "coefficient": ``K = exp(g)``, one k a sample, as Wang et al. (2024), arXiv 2401.09516, ran it (k uniform in
(0, 1), which leaves the operator positive definite). "wave_number": K = 1, ``k(x) = k_0 exp(contrast g)``, the form of
their text; with wave numbers well above pi the operator is indefinite. g is a Gaussian random field.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from closures.linear_families.family import Parameters, unit_box
from closures.linear_families.random_fields import gaussian_field
from closures.linear_families.sequences.fast_box import FastBox
from closures.linear_families.sequences.system import System

MEDIA = 60_217  # seeds the media that samples share
Medium = Literal["coefficient", "wave_number"]


class Helmholtz:
    """The family on a grid of any dimension.

    Parameters
    ----------
    wave_number : range from which k (or k_0) is drawn uniformly.
    medium : what the random field acts on.
    contrast : factor of the field in the exponent.
    media : how many different fields there are; 0 is one for every sample. A few media and many wave numbers make
        sweeps, whose systems are close.
    """

    name, unknown = "helmholtz", "wave"

    def __init__(
        self,
        shape: tuple[int, ...],
        wave_number: tuple[float, float] = (0.0, 1.0),
        medium: Medium = "coefficient",
        contrast: float = 1.0,
        alpha: float = 2.5,
        tau: float = 7.0,
        media: int = 0,
    ) -> None:
        self.volumes = unit_box(shape)
        self.range, self.medium, self.contrast = wave_number, medium, contrast
        self.alpha, self.tau, self.media = alpha, tau, media
        self.box = FastBox(shape, self.volumes.spacing, self.volumes.sides)
        self.ones = np.ones(shape)

    @property
    def default_method(self) -> str:
        """By what the operator is: definite, or indefinite, in a plane with one medium or otherwise."""
        if self.medium == "coefficient" and self.range[1] <= 1:
            return "cg+fft"
        if self.media == 1 and self.volumes.ndim == 2:
            return "direct+guess"
        return "direct"  # deflated restarts leave systems in three dimensions unsolved

    def draw(self, rng: np.random.Generator) -> Parameters:
        """K and k; the one that varies in space is ``(*shape)``, the other a number."""
        k = rng.uniform(*self.range)
        if self.media:
            rng = np.random.default_rng([MEDIA, int(rng.integers(self.media))])
        medium = np.exp(self.contrast * gaussian_field(rng, self.volumes.shape, self.alpha, self.tau))
        if self.medium == "coefficient":
            return {"stiffness": medium, "wave_number": np.array(k)}
        return {"stiffness": np.array(1.0), "wave_number": k * medium}

    def likeness(self, parameters: Parameters) -> np.ndarray:
        """K and k in a row; the published code adds the two distances instead."""
        return np.append(parameters["stiffness"].ravel(), parameters["wave_number"].ravel())

    def system(self, parameters: Parameters) -> System:
        """Nearby is the Laplacian shifted by the mean of k^2, scaled by sqrt(K)."""
        stiffness = parameters["stiffness"] * self.ones
        square = parameters["wave_number"] ** 2
        matrix = self.volumes.matrix(stiffness, -square)
        rhs = self.volumes.right_hand_side(stiffness, 1.0, {})
        lowest = float(stiffness.min()) * float(self.box.symbol.min())
        if self.medium == "coefficient":
            nearby = self.box.inverse(-float(np.mean(square / stiffness)), stiffness)
        else:
            nearby = self.box.inverse(-float(np.mean(square)))
        return System(matrix, rhs, definite=bool(np.max(square) < lowest), nearby=nearby)
