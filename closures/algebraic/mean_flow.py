"""A flow as its mean over the Fourier directions and the fluctuations about it."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from closures.algebraic.base import unfused_gradient
from closures.algebraic.invariants import Six, symmetric
from solver.discretisation.calculus import Components
from solver.discretisation.gradient import Derivatives, VelocityGradient
from solver.discretisation.staggered import DIM
from solver.discretisation.velocity import Velocity
from solver.errors import CaseError
from solver.grid.grid import Grid


def mean_staggered(velocity: Velocity) -> Components:
    """Means of u, v, w over the Fourier directions, where they live, with ghosts; one entry along these directions."""
    along = [DIM[d] for d in velocity.grid.fourier_axes]
    u, v, w = (f.mean(along, keepdim=True) for f in velocity.staggered)
    return u, v, w


def mean_strain(strain: VelocityGradient, mean: Components) -> Six:
    """``<s_ij>`` at cell centres, 1/time: what the mean does not vary along has no derivative."""
    still = {(i, j): torch.zeros_like(mean[i]) for i in range(3) for j in strain.fourier_axes[i]}
    return symmetric(unfused_gradient(strain, mean, still))


class Fluctuations(Velocity):
    """``u - <u>`` of one instant, as a closure sees a velocity: zero at walls, also where these move.

    Nothing is transformed again: the mean has no derivative along Fourier directions.

    Parameters
    ----------
    whole : the velocity.
    mean : `mean_staggered` of it.
    """

    def __init__(self, whole: Velocity, mean: Components) -> None:
        super().__init__(whole.strain, self._without_mean(whole, whole.coefficients))
        self.whole, self.mean = whole, mean

    @staticmethod
    def _without_mean(whole: Velocity, coefficients: Components) -> Components:
        def less(c: Tensor) -> Tensor:
            c = c.clone()
            whole.operators.mean_mode(c).zero_()
            return c

        u, v, w = (less(c) for c in coefficients)
        return u, v, w

    @cached_property
    def padded_coefficients(self) -> Components:
        """Coefficients with ghosts; of a moving wall nothing is left."""
        return self._without_mean(self.whole, self.whole.padded_coefficients)

    @cached_property
    def staggered(self) -> Components:
        """u', v', w' in physical space where they live, with ghosts along finite-volume axes."""
        u, v, w = (f - m for f, m in zip(self.whole.staggered, self.mean, strict=True))
        return u, v, w

    @cached_property
    def spectral_derivatives(self) -> Derivatives:
        """Derivatives along Fourier axes: those of the whole."""
        return self.whole.spectral_derivatives

    @property
    def energy(self) -> Tensor:
        """Half of the mean square over the volume, velocity^2; the same on every rank."""
        u, v, w = (self.operators.inner_product(c, c, i) for i, c in enumerate(self.coefficients))
        return 0.5 * (u + v + w)


def check_walls(name: str, grid: Grid, nu: float) -> None:
    """Raises CaseError where there is no mean flow along walls, or nothing to measure it by."""
    if not any(axis.highest_mode > 0 for axis in grid.fourier_axes.values()):
        raise CaseError(
            f"[closure] '{name}' takes means along Fourier directions and this grid has none: use 'wale' or 'amd'"
        )
    if grid.has_modelled_walls:
        raise CaseError(f"[closure] '{name}' measures the slope at walls, which are modelled here: use 'wale' or 'amd'")
    if not nu > 0:
        raise CaseError(f"[closure] '{name}' measures in wall units and needs nu > 0 where there are walls")
