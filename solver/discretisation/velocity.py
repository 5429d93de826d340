"""The velocity field as momentum, closures and hooks see it: lazily transformed, never edited."""

from __future__ import annotations

from functools import cached_property

from torch import Tensor

from solver.discretisation.calculus import Components
from solver.discretisation.gradient import Derivatives, VelocityGradient
from solver.grid.grid import Grid

Gradient = tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


class Velocity:
    """One instant of the flow; everything is computed on first use, by all ranks together, and kept.

    Parameters
    ----------
    strain : the gradients (and through them the operators) of the grid.
    coefficients : three divergence-free coefficient fields without ghosts.
    """

    def __init__(self, strain: VelocityGradient, coefficients: Components) -> None:
        self.strain, self.operators, self.coefficients = strain, strain.operators, coefficients

    @property
    def grid(self) -> Grid:
        """The global grid."""
        return self.operators.grid

    @cached_property
    def padded_coefficients(self) -> Components:
        """Coefficients with ghosts along finite-volume axes."""
        return self.operators.pad(self.coefficients)

    @cached_property
    def staggered(self) -> Components:
        """u, v, w in physical space where they live, with ghosts along finite-volume axes."""
        (u, _), (v, _), (w, _) = self.operators.all_with_derivatives(self.padded_coefficients, ((), (), ()))
        return u, v, w

    @cached_property
    def spectral_derivatives(self) -> Derivatives:
        """Derivatives along Fourier axes on physical points, see `VelocityGradient.spectral`.

        `staggered` comes along at little cost: whoever needs both asks for the derivatives first.
        """
        values, derivatives = self.strain.spectral(self.padded_coefficients)
        self.__dict__.setdefault("staggered", values)
        return derivatives

    @cached_property
    def centred(self) -> Components:
        """u, v, w at cell centres, each (nx, local ny, nz)."""
        u, v, w = (self.strain.to_centre(f, i) for i, f in enumerate(self.staggered))
        return u, v, w

    @cached_property
    def gradient(self) -> Gradient:
        """``gradient[i][j] = d_j u_i`` at cell centres, each (nx, local ny, nz), in 1/time; trace zero."""
        spectral = self.spectral_derivatives
        g = self.strain.centred(self.staggered, spectral)
        return (g[0], g[1], g[2]), (g[3], g[4], g[5]), (g[6], g[7], g[8])
