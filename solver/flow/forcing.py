"""What drives the flow: constant mass flux, constant pressure gradient, or held large scales.

A forcing has two parts, either of which may do nothing: an acceleration that joins the tendency, and a correction of
the velocity. `restrain` is what the correction comes to in a short time. `mean_acceleration` tells the hooks what the
flow received.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from solver.discretisation.calculus import Components, Operators
from solver.discretisation.shells import shell_numbers
from solver.discretisation.staggered import above
from solver.errors import CaseError
from solver.flow.projection import ObstructedProjection


class Forcing(Protocol):
    """Drives the flow; `span` is the time covered by the stage.

    An affine correction keeps the order of the Runge-Kutta scheme when it follows each stage. Any other would be news
    to the tendencies that the scheme remembers and leave it first order: there the tendency is restrained, and the
    correction, which then is of the size of the error, follows the last stage alone (Hairer, Lubich & Wanner 2006,
    Geometric Numerical Integration, section IV.4).
    """

    is_affine: bool

    @property
    def mean_acceleration(self) -> float:
        """Volume mean of the driving acceleration along x, at the last stage."""
        ...

    @property
    def body_force(self) -> float:
        """The acceleration along x that acts whatever the flow does."""
        ...

    def speed(self, elapsed: float) -> float:
        """Largest rms velocity that the drive gives to fluid at rest within the time `elapsed`, without friction."""
        ...

    def accelerate(self, rate: Components) -> Components:
        """Tendency with the body force."""
        ...

    def correct(self, velocity: Components, span: float) -> Components:
        """Velocity coefficients after a stage, or a step, corrected."""
        ...

    def restrain(self, velocity: Components, rate: Components, decay: float = 0.0) -> Components:
        """The tendency of a divergence-free velocity without what the correction would undo; `rate` is consumed.

        `decay`: viscosity of the diffusion that is not in `rate`. Where the correction is affine `rate` should be
        divergence-free; held shells take a gradient for what it is, powerless.
        """
        ...


class NoForcing:
    """Nothing drives the flow."""

    is_affine = True

    @property
    def mean_acceleration(self) -> float:
        """Zero."""
        return 0.0

    @property
    def body_force(self) -> float:
        """Zero."""
        return 0.0

    def speed(self, elapsed: float) -> float:
        """Zero."""
        return 0.0

    def accelerate(self, rate: Components) -> Components:
        """The tendency, unchanged."""
        return rate

    def correct(self, velocity: Components, span: float) -> Components:
        """The velocity, unchanged."""
        return velocity

    def restrain(self, velocity: Components, rate: Components, decay: float = 0.0) -> Components:
        """The tendency, unchanged."""
        return rate


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


def passes(operators: Operators, response: Components) -> bool:
    """Whether fluid can go round along x, told by what a unit acceleration makes of fluid at rest.

    The bulk velocity of that flow is the volume mean of its square, because the projection is orthogonal; where nothing
    passes both are the solver's errors, and not alike.
    """
    gain = float(bulk_velocity(operators, response[0]))
    square = sum(float(operators.inner_product(f, f, i)) for i, f in enumerate(response))
    return gain > 100 * torch.finfo(operators.dtype).eps and abs(square - gain) < 0.1 * gain


class PressureGradient(NoForcing):
    """A constant mean pressure gradient ``-dp/dx`` (kinematic), along x."""

    def __init__(self, operators: Operators, gradient: float) -> None:
        self.operators, self.gradient = operators, gradient

    @property
    def mean_acceleration(self) -> float:
        """The gradient."""
        return self.gradient

    @property
    def body_force(self) -> float:
        """The gradient."""
        return self.gradient

    def speed(self, elapsed: float) -> float:
        """That of free fall."""
        return abs(self.gradient) * elapsed

    def accelerate(self, rate: Components) -> Components:
        """Tendency plus the uniform acceleration."""
        uniform = torch.zeros_like(rate[0])
        self.operators.mean_mode(uniform).add_(self.gradient)
        return rate[0] + uniform, rate[1], rate[2]


class MassFlux(NoForcing):
    """Constant bulk velocity: a uniform acceleration that restores it after each stage.

    Being affine, it keeps the order of the Runge-Kutta scheme.
    """

    def __init__(self, operators: Operators, bulk: float) -> None:
        self.operators, self.bulk = operators, bulk
        self._deficit: Tensor | float = math.nan
        self._span = 1.0

    @property
    def mean_acceleration(self) -> float:
        """Pressure gradient of the last stage; nan before the first."""
        return float(self._deficit) / self._span if math.isfinite(self._span) else math.nan

    def speed(self, elapsed: float) -> float:
        """The bulk velocity."""
        return abs(self.bulk)

    def correct(self, velocity: Components, span: float) -> Components:
        """Velocity with the bulk velocity restored."""
        u = velocity[0]
        self._deficit, self._span = self.bulk - bulk_velocity(self.operators, u), span
        self.operators.mean_mode(u).add_(self._deficit)
        return velocity

    def restrain(self, velocity: Components, rate: Components, decay: float = 0.0) -> Components:
        """The tendency with the bulk velocity at rest."""
        self.operators.mean_mode(rate[0]).sub_(bulk_velocity(self.operators, rate[0]))
        return rate


class MassFluxAroundSolids(MassFlux):
    """Constant bulk velocity where solids stand in the way: a multiple of the flow that a uniform acceleration starts.

    That flow is divergence-free and respects the solids, so no second projection is needed. The bulk velocity is the
    mean over the whole box, solids included (superficial).
    """

    def __init__(self, operators: Operators, bulk: float, projection: ObstructedProjection) -> None:
        super().__init__(operators, bulk)
        self.projection, self.response = projection, projection.response()
        self.gain = bulk_velocity(operators, self.response.velocity[0])
        if not passes(operators, self.response.velocity):
            raise CaseError(
                "[flow.forcing] kind = 'mass_flux': no way leads from one end of x to the other between the solids: "
                "open one, or use kind = 'pressure_gradient' or 'none'"
            )

    def correct(self, velocity: Components, span: float) -> Components:
        """Velocity with the bulk velocity restored; pressure and forces know."""
        self._deficit = (self.bulk - bulk_velocity(self.operators, velocity[0])) / self.gain
        self._span = span
        self.projection.add(self.response, self._deficit)
        u, v, w = (f + self._deficit * g for f, g in zip(velocity, self.response.velocity, strict=True))
        return u, v, w

    def restrain(self, velocity: Components, rate: Components, decay: float = 0.0) -> Components:
        """The tendency with the bulk velocity at rest."""
        excess = bulk_velocity(self.operators, rate[0]) / self.gain
        u, v, w = (f - excess * g for f, g in zip(rate, self.response.velocity, strict=True))
        return u, v, w


class HeldShells(NoForcing):
    """Isotropic turbulence kept alive by holding the kinetic energy of the lowest wavenumber shells.

    Shells are those of `solver.discretisation.shells`, numbered from 1. Between rescalings it feels an acceleration
    along its own velocity, as strong as keeps its energy: of third order in time with the rest of the flow.
    """

    is_affine = False

    def __init__(self, operators: Operators, energies: tuple[float, ...]) -> None:
        self.operators, self.energies = operators, energies
        self.targets = operators.tensor(energies)
        shell = shell_numbers(operators)
        self.shells = [torch.nonzero(shell == s, as_tuple=True) for s in range(1, len(energies) + 1)]
        self.weights = [operators.mode_weight.expand(shell.shape)[index] for index in self.shells]

    def speed(self, elapsed: float) -> float:
        """That of the energy of all shells."""
        return math.sqrt(2.0 * sum(self.energies))

    def correct(self, velocity: Components, span: float) -> Components:
        """Velocity with each held shell rescaled to its energy."""
        energies = 0.5 * self.operators.decomposition.sum(self._products(velocity, velocity))
        scales = torch.where(energies > 0, (self.targets / energies.clamp_min(_tiny(energies))).sqrt(), 1.0)
        for (i, j, k), scale in zip(self.shells, scales, strict=True):
            for c in velocity:
                c[:, i, j, k] *= scale
        return velocity

    def restrain(self, velocity: Components, rate: Components, decay: float = 0.0) -> Components:
        """The tendency without the part along the velocity of each shell that would change its energy."""
        squares, power = self._products(velocity, velocity), self._products(velocity, rate)
        if decay:
            power = power - decay * self._products(velocity, velocity, self.operators.squared_wavenumber)
        squares, power = self.operators.decomposition.sum(torch.stack([squares, power]))
        shares = power / squares.clamp_min(_tiny(squares))
        for (i, j, k), share in zip(self.shells, shares, strict=True):
            for c, r in zip(velocity, rate, strict=True):
                r[:, i, j, k] -= share * c[:, i, j, k]
        return rate

    def _products(self, a: Components, b: Components, factor: Tensor | None = None) -> Tensor:
        """This rank's part of the volume mean of ``a.b`` times `factor`, a function of the mode, for each shell."""
        found = []
        for (i, j, k), weight in zip(self.shells, self.weights, strict=True):
            weight = weight if factor is None else weight * factor[i, j, k]
            parts = [(f[:, i, j, k] * g[:, i, j, k] * weight).sum() for f, g in zip(a, b, strict=True)]
            found.append(parts[0] + parts[1] + parts[2])
        return torch.stack(found)


def _tiny(f: Tensor) -> float:
    """Smallest number by which one may divide."""
    return torch.finfo(f.dtype).tiny
