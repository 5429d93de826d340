"""Passive scalars: ``ds/dt = -d_j(u_j s + q_j) + kappa lap s + source``, q the subgrid flux, at cell centres.

Through a finite-volume face goes the arithmetic mean of the two values beside it, so that the variance is conserved as
the kinetic energy is (`solver.flow.equation`): to round-off, given a divergence-free velocity and no diffusion.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from solver.discretisation.calculus import Components, Operators
from solver.discretisation.fusion import fused
from solver.discretisation.staggered import below, difference, ends, join, mean
from solver.discretisation.velocity import Velocity
from solver.flow.closure import Closure, EddyViscosity, ScalarClosure, SubgridTerm
from solver.flow.moving_frame import MovingFrame
from solver.flow.wall_normal_modes import WallNormalModes

Values = dict[str, Tensor]  # coefficients by name


@dataclass(frozen=True)
class End:
    """What is given at an end: the value, or, where that is None, the flux into the fluid."""

    value: float | None = None
    flux: float = 0.0


@dataclass(frozen=True)
class Scalar:
    """One scalar.

    Parameters
    ----------
    name : of it.
    prandtl, prandtl_t : viscosity over diffusivity, and the same of the subgrid scales.
    ends : what is given, by axis and end (0 lower, 1 upper); elsewhere nothing passes.
    source, source_per_u : production a time, and so many times the velocity along x.
    """

    name: str
    prandtl: float
    prandtl_t: float = 0.9
    ends: Mapping[tuple[int, int], End] = field(default_factory=dict)
    source: float = 0.0
    source_per_u: float = 0.0

    def end(self, axis: int, which: int) -> End:
        """What is given at an end."""
        return self.ends.get((axis, which), End())


class Transport:
    """The equation of one scalar on a grid whose x is a Fourier axis.

    Parameters
    ----------
    operators : the discrete calculus.
    scalar : what is carried.
    nu : kinematic viscosity.
    implicit : whether diffusion along y is, as that of momentum; the pair of coefficients is the same.
    frame : in which advection is stepped, if it moves.
    """

    def __init__(
        self,
        operators: Operators,
        scalar: Scalar,
        nu: float,
        implicit: bool = False,
        frame: MovingFrame | None = None,
    ) -> None:
        self.frame = frame
        self.operators, self.scalar, self.diffusivity = operators, scalar, nu / scalar.prandtl
        self.volume_axes, self.exact = operators.volume_axes, not operators.volume_axes
        self.fourier = [d for d in range(3) if d not in self.volume_axes]
        held = [scalar.end(1, which).value is not None for which in (0, 1)]
        self.modes = WallNormalModes(operators, (held[0], held[1])) if implicit else None

    # -- on the grid --------------------------------------------------------------------------------------------------

    def padded(self, f: Tensor) -> Tensor:
        """Coefficients with ghosts beyond finite-volume ends, by what is given there."""
        op = self.operators
        for axis in self.volume_axes:
            first, last = ends(f, axis)
            lower, upper = op.neighbours(last, first, axis)
            lower = self._beyond(first, axis, 0) if lower is None else lower
            upper = self._beyond(last, axis, 1) if upper is None else upper
            f = join([lower, f, upper], axis)
        return f

    def _beyond(self, near: Tensor, axis: int, which: int) -> Tensor:
        end = self.scalar.end(axis, which)
        if end.value is None:
            ghost, jump = near, 0.0
            if end.flux:
                jump = end.flux * float(self.operators.grid.volume_axes[axis].spacing[-which]) / self.diffusivity
        else:
            ghost, jump = -near, 2.0 * end.value
        if not jump:
            return ghost
        given = torch.zeros_like(near)
        self.operators.mean_mode(given).add_(jump)
        return ghost + given

    def gradient(self, padded: Tensor) -> Components:
        """``d_j s`` at cell centres, from padded coefficients."""
        values, found = self.operators.with_derivatives(padded, self.fourier)
        x, y, z = (
            self.operators.inner(found[j]) if j in found else self._slope_at_centres(values, j) for j in range(3)
        )
        return x, y, z

    def _slope_at_centres(self, s: Tensor, axis: int) -> Tensor:
        slope = mean(difference(s, axis) / self.operators.metric[axis].spacing, axis)
        return self.operators.inner(slope, axis)

    # -- the equation -------------------------------------------------------------------------------------------------

    def rate(
        self, velocity: Velocity, f: Tensor, term: SubgridTerm | None = None, closure: Closure | None = None
    ) -> Tensor:
        """``ds/dt`` as coefficients (collective), without diffusion that is exact."""
        padded = self.padded(f)
        fluxes = [self.operators.to_coefficients(q) for q in self.fluxes(velocity, padded, term, closure)]
        return self._produced(self._rate(padded, fluxes), velocity)

    def fluxes(
        self, velocity: Velocity, padded: Tensor, term: SubgridTerm | None = None, closure: Closure | None = None
    ) -> list[Tensor]:
        """``u_j s + q_j`` through the faces 0 .. n across a finite-volume j, at the points along a Fourier one."""
        op = self.operators
        eddy, own = None, None
        if isinstance(closure, ScalarClosure) and term is not None:
            flux = closure.scalar_flux(velocity, self.gradient(padded), term)
            own = [op.pad_scalar(q, at_wall=-1.0) for q in flux]
        elif isinstance(term, EddyViscosity):
            eddy = op.pad_scalar(term.nu_t / self.scalar.prandtl_t, at_wall=-1.0)
        s, slopes = op.with_derivatives(padded, self.fourier if eddy is not None else ())
        return self._fluxes(velocity.staggered, s, slopes, eddy, own)

    @fused
    def _fluxes(
        self, u: Components, s: Tensor, slopes: dict[int, Tensor], eddy: Tensor | None, own: list[Tensor] | None
    ) -> list[Tensor]:
        found = []
        for j in range(3):
            staggered = j in self.volume_axes
            carried = self.operators.inner(mean(s, j) if staggered else s, j)
            flux = carried * self.operators.inner(below(u[j], j) if staggered else u[j], j)
            if eddy is not None:
                slope = difference(s, j) / self.operators.metric[j].spacing if staggered else slopes[j]
                flux = flux - self.operators.inner((mean(eddy, j) if staggered else eddy) * slope, j)
            if own is not None:
                flux = flux + self.operators.inner(mean(own[j], j) if staggered else own[j], j)
            found.append(flux)
        return found

    @fused
    def _rate(self, padded: Tensor, fluxes: list[Tensor]) -> Tensor:
        parts = [
            difference(flux, j) / self.operators.metric[j].width
            if j in self.volume_axes
            else self.operators.derivative(flux, j)
            for j, flux in enumerate(fluxes)
        ]
        divergence = functools.reduce(torch.add, parts)
        if self.exact or not self.diffusivity:
            return -divergence
        laplacian = -self.operators.squared_wavenumber * self.operators.inner(padded)
        for axis in self.volume_axes:
            laplacian = laplacian + self.curvature(padded, axis)
        return self.diffusivity * laplacian - divergence

    def curvature(self, padded: Tensor, axis: int) -> Tensor:
        """The second derivative along a finite-volume axis of padded coefficients."""
        metric = self.operators.metric[axis]
        return self.operators.inner(difference(difference(padded, axis) / metric.spacing, axis) / metric.width, axis)

    def _produced(self, rate: Tensor, velocity: Velocity) -> Tensor:
        if self.scalar.source_per_u:
            rate = rate + self.scalar.source_per_u * velocity.coefficients[0]
        if self.scalar.source:
            uniform = torch.zeros_like(rate)
            self.operators.mean_mode(uniform).add_(self.scalar.source)
            rate = rate + uniform
        return rate

    # -- in time ------------------------------------------------------------------------------------------------------

    def advanced(
        self, f: Tensor, rate: Tensor, before: Tensor | None, weights: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor]:
        """The scalar after a stage, and the rate that the next one remembers; `weights` as in `Flow.advanced`."""
        gamma, rho, stiff, _, span = weights
        if self.frame is not None:
            (rate,) = self.frame.seen((rate,), (f,))
        if self.modes is not None:
            new, rate = self._implicitly(f, rate, before, weights)
        else:
            new = f + (gamma * rate + rho * (rate if before is None else before))
        if self.exact:
            factor = torch.exp(-(stiff / self.scalar.prandtl) * self.operators.squared_wavenumber)
            new, rate = factor * new, factor * rate
        return (new, rate) if self.frame is None else self.frame.back((new, rate), span)

    def _implicitly(
        self, f: Tensor, rate: Tensor, before: Tensor | None, weights: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor]:
        """The same with implicit diffusion along y: ``(1 - b d2/dy2) ds`` is what all terms give explicitly."""
        assert self.modes is not None
        gamma, rho, span, beta, _ = weights
        curvature = self.curvature(self.padded(f), 1)
        rate = rate - self.diffusivity * curvature
        change = gamma * rate + rho * (rate if before is None else before) + (span / self.scalar.prandtl) * curvature
        return f + self.modes.solve(change, beta / self.scalar.prandtl), rate


class Scalars:
    """All scalars of a flow.

    Parameters
    ----------
    transports : their equations.
    closure : of the flow, which may have a flux of scalars of its own.
    """

    def __init__(self, transports: list[Transport], closure: Closure | None = None) -> None:
        self.transports, self.closure = {t.scalar.name: t for t in transports}, closure

    def __call__(
        self,
        velocity: Velocity,
        values: Values,
        term: SubgridTerm | None,
        before: Values | None,
        weights: tuple[Tensor, ...],
    ) -> tuple[Values, Values]:
        """The values after a stage that begins with `velocity`, and the rates that the next one remembers."""
        after, rates = {}, {}
        for name, f in values.items():
            transport = self.transports[name]
            rate = transport.rate(velocity, f, term, self.closure)
            after[name], rates[name] = transport.advanced(f, rate, before[name] if before else None, weights)
        return after, rates
