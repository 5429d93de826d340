"""The equations of motion on one grid, as functions of a velocity; nothing here changes with time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from solver.discretisation.calculus import Components, Operators
from solver.discretisation.fusion import fused
from solver.discretisation.gradient import VelocityGradient
from solver.discretisation.velocity import Velocity
from solver.flow.closure import Answers, Closure, EddyViscosity, SubgridStress, SubgridTerm
from solver.flow.closure import State as Memory
from solver.flow.forcing import Forcing
from solver.flow.implicit_diffusion import ImplicitDiffusion
from solver.flow.momentum import Momentum
from solver.flow.moving_frame import MovingFrame
from solver.flow.number import Number
from solver.flow.projection import Pressure, Projected, Projection
from solver.flow.scalars import Scalar, Scalars, Transport, Values
from solver.flow.state import State
from solver.flow.wall_stress import Stress


class Flow:
    """``du/dt = -div(u u + tau) + nu lap u + f - grad p``, ``div u = 0``.

    Parameters
    ----------
    operators : the discrete calculus.
    nu : kinematic viscosity.
    closure : gives tau or f of the subgrid scales; None for no model.
    forcing : what drives the flow.
    momentum, projection : those of a box without solids by default.
    scalars : what the flow carries.
    frame : velocity along x of the frame in which advection is stepped: what it does to a field is a translation, taken
        exactly, so that only the velocity relative to it limits steps and is damped by them.
    implicit : whether molecular diffusion along y is implicit, see `ImplicitDiffusion`; never in a box, where all of it
        is exact.

    Raises
    ------
    CaseError : it cannot be implicit on this grid or around solids, or x is no Fourier axis and the frame moves.
    """

    def __init__(
        self,
        operators: Operators,
        nu: float,
        closure: Closure | None = None,
        forcing: Forcing | None = None,
        momentum: Momentum | None = None,
        projection: Projection | None = None,
        implicit: bool = False,
        scalars: Sequence[Scalar] = (),
        frame: float = 0.0,
    ) -> None:
        self.operators, self.nu, self.closure = operators, nu, closure
        self.forcing: Forcing = forcing or Forcing()
        self.exact_diffusion = not operators.volume_axes
        self.momentum = momentum or Momentum(VelocityGradient(operators), 0.0 if self.exact_diffusion else nu)
        self.strain, self.equation = self.momentum.strain, self.momentum.equation
        self.walls = self.momentum.wall_stress
        self.projection = projection or Projection(operators)
        self.implicit = ImplicitDiffusion(self.momentum, self.projection) if implicit else None
        self.frame = MovingFrame(operators, frame) if frame else None
        self.scalars = Scalars([Transport(operators, scalar, nu, implicit, self.frame) for scalar in scalars], closure)
        self.diffusivity = max([nu, *(t.diffusivity for t in self.scalars.transports.values())])
        self.stiff_nu = nu if self.exact_diffusion or implicit else 0.0  # of what is not in the rates that are kept
        self.sums_on_the_way = self.projection.carries_sums and not implicit
        self.timers, self.answers = operators.timers, Answers()

    # -- one stage, in the order of its parts -----------------------------------------------------------------------

    def subgrid(
        self, velocity: Velocity, t: Number, memory: Memory, keep: bool = False
    ) -> tuple[SubgridTerm | None, Memory]:
        """The closure's term and what it remembers then; `keep` the answer for who asks the same next."""
        if self.closure is None:
            return None, memory
        with self.timers("closure"):
            return self.answers(self.closure, velocity, t, memory, keep)

    def wall_stress(self, velocity: Velocity, t: Number, memory: Memory) -> tuple[Stress | None, Memory]:
        """What the wall model gives, None where walls are resolved, and what it remembers then (collective)."""
        if self.walls is None:
            return None, memory
        with self.timers("wall model"):
            return self.walls(velocity, t, memory)

    def transported(
        self,
        velocity: Velocity,
        scalars: Values,
        term: SubgridTerm | None,
        before: Values | None,
        weights: tuple[Tensor, ...],
    ) -> tuple[Values, Values | None]:
        """The scalars after a stage that begins with `velocity`, and the rates that the next one remembers."""
        if not scalars:
            return scalars, None
        with self.timers("scalars"):
            return self.scalars(velocity, scalars, term, before, weights)

    def tendency(self, velocity: Velocity, term: SubgridTerm | None, stress: Stress | None = None) -> Components:
        """``du/dt`` without pressure, and without the diffusion that is integrated exactly."""
        with self.timers("momentum"):
            rate = self.forcing.accelerate(self.momentum.tendency(velocity, term, stress))
            if self.forcing.is_affine:
                return rate
            return self.forcing.tangent(velocity.coefficients, rate, self.nu if self.exact_diffusion else 0.0)

    def advanced(
        self, velocity: Velocity, rate: Components, before: Components | None, weights: tuple[Tensor, ...]
    ) -> tuple[Components, Components]:
        """``u + gamma dt rate + rho dt before``, and the tendency that the next stage remembers.

        `weights` are ``gamma dt``, ``rho dt`` and, for diffusion that is integrated exactly, ``nu span dt``: all of it
        decays by ``exp(-nu k^2 span dt)``; then that of `diffused`, and ``span dt``, by which the frame has moved.
        Diffusion that is implicit acts over the span as well, and is not remembered.
        """
        u, frame = velocity.coefficients, self.frame
        with self.timers("momentum"):
            if self.implicit is None:
                return self._advanced(u, rate, before or rate, (*weights[:3], weights[4]))
            rate = rate if frame is None else frame.seen(rate, u)
            u, rate = self.implicit.predicted(velocity, rate, before, weights[:3])
            return (u, rate) if frame is None else (frame.back(u, weights[4]), frame.back(rate, weights[4]))

    @fused
    def _advanced(
        self, u: Components, rate: Components, before: Components, weights: tuple[Tensor, ...]
    ) -> tuple[Components, Components]:
        gamma, rho, decay, span = weights
        rate = rate if self.frame is None else self.frame.seen(rate, u)
        a, b, c = [f + (gamma * r + rho * p) for f, r, p in zip(u, rate, before, strict=True)]
        return self._acted_exactly((a, b, c), decay, span), self._acted_exactly(rate, decay, span)

    def _acted_exactly(self, u: Components, decay: Tensor, span: Tensor) -> Components:
        """What diffusion and the motion of the frame make of a field, where these are integrated exactly."""
        if self.exact_diffusion:
            factor = torch.exp(-decay * self.operators.squared_wavenumber)
            u = (factor * u[0], factor * u[1], factor * u[2])
        return u if self.frame is None else self.frame.back(u, span)

    def projected(self, u: Components, span: Number = 0.0, pressure: Pressure | None = None) -> Projected:
        """What is divergence-free of a velocity at the end of a stage that covers `span`; `pressure` is a guess.

        The total is that of what the forcing sums, where nothing changes it between the projection and the forcing.
        """
        with self.timers("pressure"):
            share = self.forcing.share(u) if self.sums_on_the_way else None
            return self.projection(u, span, pressure, share)

    def diffused(
        self, before: Velocity, u: Components, weights: tuple[Tensor, ...]
    ) -> tuple[Components, Tensor | None]:
        """`u`, which a stage has led to from `before`, as implicit diffusion leaves it, divergence-free as it was; and
        what that leaves of a unit acceleration along x, (1, local ny, 1), None for all of it.
        """
        if self.implicit is None:
            return u, None
        with self.timers("diffusion"):
            start = before.coefficients
            return self.implicit(start if self.frame is None else self.frame.back(start, weights[4]), u, weights[3])

    def driven(
        self,
        u: Components,
        impulse: Tensor | None,
        span: Number,
        column: Tensor | None = None,
        total: Tensor | None = None,
    ) -> tuple[Components, Tensor | float, Tensor | None]:
        """Velocity, driving acceleration and impulse on solids after what the forcing does at the end of a stage."""
        u, given = self.forcing.correct(u, span, column, total)
        drive = self.forcing.drive(given, span)
        return u, drive, None if impulse is None else impulse.detach() + self.forcing.impulse(given)

    def solenoidal(self, u: Components) -> Components:
        """The divergence-free part of a velocity that no stage led to."""
        return self.projected(u).velocity

    # -- states -----------------------------------------------------------------------------------------------------

    def velocity(self, coefficients: Components) -> Velocity:
        """The velocity that these coefficients are."""
        return Velocity(self.strain, coefficients)

    def start(self, u: Components, settled: bool = False) -> State:
        """The state at t = 0, projected and given its mass flux or energies, unless it is `settled`.

        What a checkpoint holds is: round-off should not tell two legs from one. A recipe may be far from solenoidal,
        and the first projection leaves round-off in proportion: so there are two.
        """
        if not settled:
            u = self.forcing.correct(self.solenoidal(self.solenoidal(u)), math.inf)[0]
        walls, drive = self.walls.init() if self.walls else {}, self.forcing.drive(0.0, math.inf)
        return State(self.velocity(u), closure=self.memory(), walls=walls, drive=drive)

    def memory(self) -> Memory:
        """What the closure remembers before the first step."""
        return self.closure.init(self.operators) if self.closure else {}

    def present_term(self, state: State) -> SubgridTerm | None:
        """The closure's term for a state, for observers: what it remembers stays as it was."""
        return self.subgrid(state.velocity, state.t, state.closure, keep=True)[0]

    def present_stress(self, state: State) -> Stress | None:
        """The stress on modelled walls for a state, likewise (collective)."""
        return self.wall_stress(state.velocity, state.t, state.walls)[0]

    def present_tendency(self, state: State) -> Components:
        """`tendency` of a state (collective)."""
        return self.tendency(state.velocity, self.present_term(state), self.present_stress(state))

    def pressure_coefficients(self, state: State) -> Tensor:
        """Kinematic pressure of the last stage, with the diagonal flux that momentum left to it (see `Momentum`).

        Before the first step of this process: what the present tendency calls for (collective).
        """
        if state.pressure is None or not state.pressure.span:
            return self.projected(self.present_tendency(state)).pressure.kinematic
        return self.forcing.pressure(state.pressure, state.drive)

    def pressure(self, state: State) -> Tensor:
        """Kinematic pressure at cell centres, (nx, local ny, nz), without the diagonal flux."""
        p, k = self.operators.to_physical(self.pressure_coefficients(state)), self.momentum.trace
        if k is None:
            return p
        p, term = p - state.velocity.centred[k] ** 2, self.present_term(state)
        if isinstance(term, EddyViscosity):
            return p + 2.0 * term.nu_t * state.velocity.gradient[k][k]
        return p - term.tau[k] if isinstance(term, SubgridStress) else p

    # -- the equations at a velocity that no step led to ------------------------------------------------------------

    def time_derivative(self, u: Components, t: float = 0.0) -> Components:
        """``du/dt`` by the equations as discretised: with pressure, diffusion and forcing.

        Closures and wall models that remember start afresh. Gradients flow through it. The forcing's part follows the
        projection: where solids stand only a divergence-free tendency says what the bulk velocity will do.
        """
        velocity = self.velocity(u)
        term = None if self.closure is None else self.closure(velocity, t, self.memory())[0]
        stress = None if self.walls is None else self.walls(velocity, t, self.walls.init())[0]
        with self.timers("momentum"):
            a, b, c = self.forcing.accelerate(self.momentum.tendency(velocity, term, stress))
            if self.exact_diffusion:
                k2 = self.nu * self.operators.squared_wavenumber
                a, b, c = (f - k2 * g for f, g in zip((a, b, c), u, strict=True))
        return self.forcing.tangent(u, self.solenoidal((a, b, c)))

    def midpoint_residual(self, before: Components, after: Components, t: float, span: float) -> float:
        """How far from the equations it is to go from `before`, at `t`, to `after` in a time `span`.

        ``|(u1 - u0) / span - F((u0 + u1) / 2)| / |F(u0)|`` with F the `time_derivative`, volume-mean L2: the implicit
        midpoint rule. 0: the equations hold; 1: as wrong as a field that does not move. It vanishes as the square of a
        span that resolves the flow. Over longer ones it measures trust and bounds no error: exact answers are off zero
        as well. The same on every rank.
        """
        return self.relative_size(self.midpoint_misfit(before, after, t, span), before, t)

    def midpoint_misfit(self, before: Components, after: Components, t: float, span: float) -> Components:
        """The acceleration in `midpoint_residual`, ``(u1 - u0) / span - F((u0 + u1) / 2)``, coefficients."""
        a, b, c = (0.5 * (f + g) for f, g in zip(before, after, strict=True))
        middle = self.time_derivative((a, b, c), t + 0.5 * span)
        u, v, w = ((g - f) / span - m for f, g, m in zip(before, after, middle, strict=True))
        return u, v, w

    def relative_size(self, acceleration: Components, velocity: Components, t: float) -> float:
        """Norm of an acceleration over that of the `time_derivative` of a velocity."""
        size, scale = self.operators.norm(acceleration), self.operators.norm(self.time_derivative(velocity, t))
        return float(size / scale.clamp_min(torch.finfo(scale.dtype).tiny))
