"""The equation of motion, term by term: ``du_i/dt = -d_j F_ij + nu lap u_i`` with ``F_ij = u_i u_j + tau_ij``.

Along finite-volume axes the carried velocity is the arithmetic mean of its neighbours and the carrying one the
volume-weighted mean, so that kinetic energy is conserved on any stretching (Verstappen & Veldman 2003, J. Comput. Phys.
187, 343); along Fourier axes de-aliasing does the same.

Component i lives on the upper faces of axis i, F_ii at centres, F_ij on the edges between faces of i and j. Along its
own direction j a flux has one entry more than there are cells: faces 0 .. n, or centres 1 .. n+1 of F_jj. Along Fourier
axes all of these are the same points.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from solver.discretisation.calculus import Components
from solver.discretisation.gradient import Derivatives, VelocityGradient
from solver.discretisation.staggered import above, below, difference, inner, mean
from solver.flow.closure import STRESS_INDEX

Pair = tuple[int, int]
Subgrid = Tensor | list[Tensor] | None  # nu_t, six stresses, or nothing: at centres, with ghosts


class Equation:
    """Its terms on one grid.

    Parameters
    ----------
    strain : gradients and operators of the grid.
    nu : kinematic viscosity; 0 where diffusion is integrated exactly, or the flow is inviscid.
    inner_slope : per (i, j), what the slope of u_i across the faces along j is multiplied by where solids stand.
    """

    def __init__(self, strain: VelocityGradient, nu: float, inner_slope: dict[Pair, Tensor] | None = None) -> None:
        self.strain, self.operators, self.nu, self.inner_slope = strain, strain.operators, nu, inner_slope
        self.volume_axes = self.operators.volume_axes

    def rate(self, u: Tensor, fluxes: dict[Pair, Tensor], i: int) -> Tensor:
        """``nu lap u_i - d_j F_ij`` from padded coefficients; a flux that is missing is left to the pressure."""
        divergence = functools.reduce(
            torch.add, [self.flux_derivative(fluxes[i, j], i, j) for j in range(3) if (i, j) in fluxes]
        )
        return self.nu * self.laplacian(u, i) - divergence if self.nu else -divergence

    # -- fluxes in physical space, from padded velocities -------------------------------------------------------------

    def flux(
        self,
        u: Components,
        spectral: Derivatives,
        subgrid: Subgrid,
        i: int,
        j: int,
        strain: VelocityGradient,
        along: int = -1,
    ) -> Tensor:
        """``u_i u_j + tau_ij``; F_ii at the centres of the direction `along`, its own by default."""
        along = i if along < 0 else along
        resolved = self.squared(u[i], i, along) if i == j else self.advected(u, i, j, strain)
        if subgrid is None:
            return resolved
        nu_t = isinstance(subgrid, Tensor)
        given = subgrid if isinstance(subgrid, Tensor) else subgrid[STRESS_INDEX[min(i, j), max(i, j)]]
        if i == j:
            tau = self.operators.at_centres(given, along)
            return resolved + (-2.0 * tau * strain.normal(u, spectral, i, along) if nu_t else tau)
        tau = strain.to_edges(given, i, j)
        return resolved + strain.of_flux(-tau * strain.twice_shear(u, spectral, i, j) if nu_t else tau, i, j)

    def squared(self, f: Tensor, i: int, along: int) -> Tensor:
        """``u_i u_i`` at centres."""
        if i in self.volume_axes:
            f = mean(f, i) if i == along else below(mean(f, i), i)
        f = self.operators.at_centres(f, along, i)
        return f * f

    def advected(self, u: Components, i: int, j: int, strain: VelocityGradient) -> Tensor:
        """u_i carried by u_j through n + 1 faces along j, at upper faces along i."""
        carried, carrying = u[i], u[j]
        for axis in self.volume_axes:
            if axis == j:
                carried, carrying = mean(carried, axis), below(carrying, axis)
            elif axis == i:
                share = strain.metric[axis].weight_below
                lower, upper = inner(carrying, axis), above(above(carrying, axis), axis)
                carried, carrying = inner(carried, axis), share * lower + (1.0 - share) * upper
            else:
                carried, carrying = inner(carried, axis), inner(carrying, axis)
        return carried * carrying

    # -- derivatives in coefficient space -----------------------------------------------------------------------------

    def flux_derivative(self, flux: Tensor, i: int, j: int) -> Tensor:
        """``d_j F_ij`` where u_i lives."""
        if j not in self.volume_axes:
            return self.operators.derivative(flux, j)
        metric = self.operators.metric[j]
        return difference(flux, j) / (above(metric.spacing, j) if i == j else metric.width)

    def slope(self, line: Tensor, i: int, axis: int) -> Tensor:
        """``d u_i / d x_axis`` across the faces 0 .. n of a component padded along `axis` alone, axis != i."""
        slope = difference(line, axis) / self.operators.metric[axis].spacing
        return slope if self.inner_slope is None else slope * self.inner_slope[i, axis]

    def laplacian(self, u: Tensor, i: int) -> Tensor:
        """``lap u_i`` of padded coefficients, without ghosts."""
        total = -self.operators.squared_wavenumber * self.operators.inner(u)
        for axis in self.volume_axes:
            total = total + self.curvature(u, i, axis)
        return total

    def curvature(self, u: Tensor, i: int, axis: int, free: Tensor | None = None) -> Tensor:
        """The part of `laplacian` along a finite-volume axis; slopes along other components are times `free`."""
        line, metric = self.operators.inner(u, axis), self.operators.metric[axis]
        if axis == i:
            normal = difference(line, axis) / above(metric.padded_width, axis)
            return difference(normal, axis) / above(metric.spacing, axis)
        slope = self.slope(line, i, axis)
        return difference(slope if free is None else slope * free, axis) / metric.width

    def squared_gradient(self, velocity: Components) -> Tensor:
        """Volume mean of ``grad u : grad u`` of padded coefficients, over all ranks.

        Times nu, and with the work of moving walls, it is what `laplacian` takes from the kinetic energy, to round-off:
        each face counts with its slope times its difference, half of it where it is an end (there the other half lies
        beyond).
        """
        op, one = self.operators, self.operators.tensor(1.0)
        total = self.operators.tensor(0.0)
        for i, f in enumerate(velocity):
            core = op.inner(f)
            total = total + op.inner_product(op.squared_wavenumber * core, core, i)
            for axis in self.volume_axes:
                line, metric = op.inner(f, axis), op.metric[axis]
                if axis == i:
                    slope = below(difference(line, axis), axis) / metric.width
                    total = total + op.inner_product(slope, slope)
                else:
                    work = self.slope(line, i, axis) * difference(line, axis)
                    total = total + op.inner_product(mean(work, axis) / metric.width, one, i)
        return total
