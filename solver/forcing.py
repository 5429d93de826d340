"""What drives the flow: constant mass flux, constant pressure gradient, or held large scales.

A forcing has two parts, either of which may do nothing: an acceleration that joins the tendency, and a correction
after each stage. `mean_acceleration` tells the hooks what the flow received.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from solver.operators import Components, Operators, above
from solver.projection import ObstructedProjection


class Forcing(Protocol):
    """Drives the flow; `span` is the time covered by the stage."""

    @property
    def mean_acceleration(self) -> float:
        """Volume mean of the driving acceleration along x, at the last stage."""
        ...

    def accelerate(self, rate: Components) -> Components:
        """Tendency with the body force."""
        ...

    def correct(self, velocity: Components, span: float) -> Components:
        """Velocity coefficients after a stage, corrected."""
        ...


class NoForcing:
    """Nothing drives the flow."""

    @property
    def mean_acceleration(self) -> float:
        """Zero."""
        return 0.0

    def accelerate(self, rate: Components) -> Components:
        """The tendency, unchanged."""
        return rate

    def correct(self, velocity: Components, span: float) -> Components:
        """The velocity, unchanged."""
        return velocity


def bulk_velocity(operators: Operators, u: Tensor) -> Tensor:
    """Volume mean of u where it lives, over all ranks."""
    column = operators.mean_mode(u)
    weight = torch.ones_like(column)
    for axis in operators.volume_axes:
        metric, line = operators.metric[axis], operators.grid.volume_axes[axis]
        size, total = metric.width, line.length
        if axis == 0:  # u lives between centres
            size, total = above(metric.spacing, 0), float(line.spacing[1:].sum())
        weight = weight * size / total
    return operators.decomposition.sum((column * weight).sum())


class PressureGradient:
    """A constant mean pressure gradient ``-dp/dx`` (kinematic), along x."""

    def __init__(self, operators: Operators, gradient: float) -> None:
        self.operators, self.gradient = operators, gradient

    @property
    def mean_acceleration(self) -> float:
        """The gradient."""
        return self.gradient

    def accelerate(self, rate: Components) -> Components:
        """Tendency plus the uniform acceleration."""
        uniform = torch.zeros_like(rate[0])
        self.operators.mean_mode(uniform).add_(self.gradient)
        return rate[0] + uniform, rate[1], rate[2]

    def correct(self, velocity: Components, span: float) -> Components:
        """The velocity, unchanged."""
        return velocity


class MassFlux(NoForcing):
    """Constant bulk velocity: a uniform acceleration that restores it after each stage.

    Being affine, it keeps the order of the Runge-Kutta scheme.
    """

    def __init__(self, operators: Operators, bulk: float) -> None:
        self.operators, self.bulk = operators, bulk
        self._deficit: Tensor | float = 0.0
        self._span = 1.0

    @property
    def mean_acceleration(self) -> float:
        """Pressure gradient of the last stage."""
        return float(self._deficit) / self._span

    def correct(self, velocity: Components, span: float) -> Components:
        """Velocity with the bulk velocity restored."""
        u = velocity[0]
        self._deficit, self._span = self.bulk - bulk_velocity(self.operators, u), span
        self.operators.mean_mode(u).add_(self._deficit)
        return velocity


class MassFluxAroundSolids(MassFlux):
    """Constant bulk velocity where solids stand in the way: a multiple of the flow that a uniform acceleration starts.

    That flow is divergence-free and respects the solids, so no second projection is needed. The bulk velocity is the
    mean over the whole box, solids included (superficial).
    """

    def __init__(self, operators: Operators, bulk: float, projection: ObstructedProjection) -> None:
        super().__init__(operators, bulk)
        self.projection, self.response = projection, projection.response()
        self.gain = bulk_velocity(operators, self.response.velocity[0])

    def correct(self, velocity: Components, span: float) -> Components:
        """Velocity with the bulk velocity restored; pressure and forces know."""
        self._deficit = (self.bulk - bulk_velocity(self.operators, velocity[0])) / self.gain
        self._span = span
        self.projection.add(self.response, self._deficit)
        u, v, w = (f + self._deficit * g for f, g in zip(velocity, self.response.velocity, strict=True))
        return u, v, w


class HeldShells(NoForcing):
    """Isotropic turbulence kept alive by holding the kinetic energy of the lowest wavenumber shells.

    Shell s holds the modes with ``s - 1/2 <= |k| L / 2 pi < s + 1/2``.
    """

    def __init__(self, operators: Operators, energies: tuple[float, ...]) -> None:
        self.operators, self.energies = operators, energies
        base = 2 * torch.pi / operators.grid.x.length
        k = operators.squared_wavenumber.sqrt() / base
        self.shells = [
            torch.nonzero((k >= s - 0.5) & (k < s + 0.5), as_tuple=True) for s in range(1, len(energies) + 1)
        ]
        self.weights = [operators.mode_weight.expand_as(k)[index] for index in self.shells]

    def correct(self, velocity: Components, span: float) -> Components:
        """Velocity with each held shell rescaled to its energy."""
        for index, weight, target in zip(self.shells, self.weights, self.energies, strict=True):
            energy = sum(
                (0.5 * (c[:, index[0], index[1], index[2]] ** 2 * weight).sum() for c in velocity),
                torch.zeros(()),
            )
            energy = self.operators.decomposition.sum(torch.as_tensor(energy))
            scale = torch.where(energy > 0, (target / energy.clamp_min(1e-300)).sqrt(), 1.0)
            for c in velocity:
                c[:, index[0], index[1], index[2]] *= scale
        return velocity
