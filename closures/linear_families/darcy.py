"""Darcy flow: ``-div(K grad p) = 1`` on the unit box, p = 0 around, ``K = exp(Gaussian random field)``.

Wang et al. (2024), arXiv 2401.09516, section 5 (alpha = 2.5, tau = 7). Their released generator multiplies the discrete
Laplacian by K at the column node and misplaces a diagonal; here the flux form is discretised, which is symmetric.
"""

from __future__ import annotations

import numpy as np

from closures.linear_families.family import Parameters, unit_box
from closures.linear_families.random_fields import gaussian_field
from closures.linear_families.sequences.fast_box import FastBox
from closures.linear_families.sequences.system import System


class Darcy:
    """The family on a grid of any dimension."""

    name, unknown = "darcy", "pressure"
    default_method = "cg+fft"

    def __init__(self, shape: tuple[int, ...], alpha: float = 2.5, tau: float = 7.0) -> None:
        self.volumes = unit_box(shape)
        self.alpha, self.tau = alpha, tau
        self.box = FastBox(shape, self.volumes.spacing, self.volumes.sides)

    def draw(self, rng: np.random.Generator) -> Parameters:
        """The permeability K, ``(*shape)``."""
        return {"permeability": np.exp(gaussian_field(rng, self.volumes.shape, self.alpha, self.tau))}

    def likeness(self, parameters: Parameters) -> np.ndarray:
        """K itself, as published."""
        return parameters["permeability"]

    def system(self, parameters: Parameters) -> System:
        """Positive definite; nearby is the Laplacian scaled by sqrt(K)."""
        k, v = parameters["permeability"], self.volumes
        rhs = v.right_hand_side(k, 1.0, {})
        return System(v.matrix(k), rhs, definite=True, nearby=self.box.inverse(weight=k))
