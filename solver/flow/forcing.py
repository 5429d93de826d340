"""What drives the flow: constant mass flux, constant pressure gradient, or held large scales.

A forcing has two parts, either of which may do nothing: an acceleration that joins the tendency, and a correction of
the velocity. `tangent` is what the correction comes to in a short time.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from solver.discretisation.calculus import Components, Operators
from solver.discretisation.staggered import above
from solver.errors import CaseError
from solver.flow.number import Number
from solver.flow.projection import Pressure, Response


class Forcing:
    """What drives the flow: this one nothing, others override what they change; `span` is the time of the stage.

    An affine correction keeps the order of the Runge-Kutta scheme when it follows each stage. Any other would be news
    to the tendencies that the scheme remembers and leave it first order: there the tendency is made tangent, and the
    correction, which then is of the size of the error, follows the last stage alone (Hairer, Lubich & Wanner 2006,
    Geometric Numerical Integration, section IV.4).

    Attributes
    ----------
    is_affine : see above.
    body_force : the acceleration along x that acts whatever the flow does.
    """

    is_affine = True
    body_force = 0.0

    def on(self, operators: Operators) -> Forcing:
        """The same for fields of other operators; without solids."""
        return self

    def speed(self, elapsed: float) -> float:
        """Largest rms velocity that the drive gives to fluid at rest within the time `elapsed`, without friction."""
        return 0.0

    def accelerate(self, rate: Components) -> Components:
        """Tendency with the body force."""
        return rate

    def correct(
        self, velocity: Components, span: Number, column: Tensor | None = None, total: Tensor | None = None
    ) -> tuple[Components, Tensor | float]:
        """Velocity coefficients after a stage, or a step, corrected; and what that gave, acceleration x time.

        `column` : what friction within the stage leaves of a unit acceleration along x, see `Flow.diffused`.
        `total` : of the `share` of all ranks, if it is known.
        """
        return velocity, 0.0

    def share(self, velocity: Components) -> Tensor | None:
        """This rank's part of the sum that `correct` needs, which no projection changes; None if it needs none."""
        return None

    def drive(self, given: Tensor | float, span: Number) -> Tensor | float:
        """Volume mean of the driving acceleration along x, of which the correction has `given` a part in `span`."""
        return self.body_force

    def pressure(self, pressure: Pressure, drive: Tensor | float) -> Tensor:
        """Kinematic pressure with the drive's share, coefficients."""
        return pressure.kinematic

    def impulse(self, given: Tensor | float) -> Tensor | float:
        """What solids take of what the correction has given, (3,) of this rank."""
        return 0.0

    def tangent(self, velocity: Components, rate: Components, decay: float = 0.0) -> Components:
        """The tendency of a divergence-free velocity without what the correction would undo; `rate` is consumed.

        `decay`: viscosity of the diffusion that is not in `rate`. Where the correction is affine `rate` should be
        divergence-free; held shells take a gradient for what it is, powerless.
        """
        return rate


def bulk_velocity(operators: Operators, u: Tensor) -> Tensor:
    """Volume mean of u where it lives, over all ranks."""
    return operators.decomposition.sum(_bulk_share(operators, u))


def _bulk_share(operators: Operators, u: Tensor) -> Tensor:
    """This rank's part of it."""
    column = operators.mean_mode(u)
    weight = torch.ones_like(column)
    for axis in operators.volume_axes:
        metric, line = operators.metric[axis], operators.grid.volume_axes[axis]
        size, total = metric.width, line.length
        if axis == 0:  # u lives between centres
            size, total = above(metric.spacing, 0), float(line.spacing[1:].sum())
        weight = weight * size / total
    return operators.total(column * weight)


def passes(operators: Operators, response: Components) -> bool:
    """Whether fluid can go round along x, told by what a unit acceleration makes of fluid at rest.

    The bulk velocity of that flow is the volume mean of its square, because the projection is orthogonal; where nothing
    passes both are the solver's errors, and not alike.
    """
    gain = float(bulk_velocity(operators, response[0]))
    square = sum(float(operators.inner_product(f, f, i)) for i, f in enumerate(response))
    return gain > 100 * torch.finfo(operators.dtype).eps and abs(square - gain) < 0.1 * gain


class PressureGradient(Forcing):
    """A constant mean pressure gradient ``-dp/dx`` (kinematic), along x."""

    def __init__(self, operators: Operators, gradient: float) -> None:
        self.operators, self.body_force = operators, gradient

    def on(self, operators: Operators) -> Forcing:
        """The same gradient."""
        return PressureGradient(operators, self.body_force)

    def speed(self, elapsed: float) -> float:
        """That of free fall."""
        return abs(self.body_force) * elapsed

    def accelerate(self, rate: Components) -> Components:
        """Tendency plus the uniform acceleration."""
        uniform = torch.zeros_like(rate[0])
        self.operators.mean_mode(uniform).add_(self.body_force)
        return rate[0] + uniform, rate[1], rate[2]


class MassFlux(Forcing):
    """Constant bulk velocity: a uniform acceleration that restores it after each stage.

    Being affine, it keeps the order of the Runge-Kutta scheme. Where solids stand in the way it is a multiple of the
    flow that a uniform acceleration starts, which is divergence-free and respects the solids: no second projection is
    needed. The bulk velocity is the mean over the whole box, solids included (superficial).

    Parameters
    ----------
    operators : the discrete calculus.
    bulk : the velocity.
    response : of fluid at rest to a unit acceleration, see `Projection.response`, where there are solids.

    Raises
    ------
    CaseError : no way leads along x between the solids.
    """

    def __init__(self, operators: Operators, bulk: float, response: Response | None = None) -> None:
        self.operators, self.bulk, self.response = operators, bulk, response
        self.gain: Tensor | float = 1.0 if response is None else bulk_velocity(operators, response.velocity[0])
        if response is not None and not passes(operators, response.velocity):
            raise CaseError(
                "[flow.forcing] kind = 'mass_flux': no way leads from one end of x to the other between the solids: "
                "open one, or use kind = 'pressure_gradient' or 'none'"
            )

    def on(self, operators: Operators) -> Forcing:
        """The same bulk velocity."""
        return MassFlux(operators, self.bulk)

    def speed(self, elapsed: float) -> float:
        """The bulk velocity."""
        return abs(self.bulk)

    def correct(
        self, velocity: Components, span: Number, column: Tensor | None = None, total: Tensor | None = None
    ) -> tuple[Components, Tensor | float]:
        """Velocity with the bulk velocity restored."""
        op = self.operators
        missing = self.bulk - (op.decomposition.sum(_bulk_share(op, velocity[0])) if total is None else total)
        if column is None:
            return self._accelerated(velocity, given := missing / self.gain), given
        share = op.metric[1].width / op.grid.y.length
        given = missing / op.decomposition.sum((column * share).sum())
        return self._accelerated(velocity, given * column), given

    def share(self, velocity: Components) -> Tensor | None:
        """Of the bulk velocity: no gradient of a potential has any along a period."""
        return _bulk_share(self.operators, velocity[0])

    def tangent(self, velocity: Components, rate: Components, decay: float = 0.0) -> Components:
        """The tendency with the bulk velocity at rest."""
        return self._accelerated(rate, -bulk_velocity(self.operators, rate[0]) / self.gain)

    def _accelerated(self, velocity: Components, amount: Tensor) -> Components:
        if self.response is None:
            self.operators.mean_mode(velocity[0]).add_(amount)
            return velocity
        u, v, w = (f + amount * g for f, g in zip(velocity, self.response.velocity, strict=True))
        return u, v, w

    def drive(self, given: Tensor | float, span: Number) -> Tensor | float:
        """What restored the bulk velocity; nan before the first step."""
        never = isinstance(span, float) and math.isinf(span)
        return math.nan if never else given / span

    def pressure(self, pressure: Pressure, drive: Tensor | float) -> Tensor:
        """Kinematic pressure with that of the fluid that the drive pushes against solids."""
        p = pressure.kinematic
        return p if self.response is None else p + drive * self.response.potential

    def impulse(self, given: Tensor | float) -> Tensor | float:
        """What solids take of the drive."""
        return 0.0 if self.response is None else torch.as_tensor(given).detach() * self.response.impulse
