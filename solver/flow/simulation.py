"""The loop: stages, projection, time-step control, hooks."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from functools import cached_property
from typing import Concatenate, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

from solver.discretisation.calculus import Components, Operators
from solver.discretisation.fusion import fused
from solver.discretisation.gradient import Strain
from solver.discretisation.velocity import Velocity
from solver.flow.closure import Answers, Closure, Corrector, EddyViscosity, State, SubgridStress, SubgridTerm, Surrogate
from solver.flow.forcing import Forcing
from solver.flow.momentum import Momentum
from solver.flow.projection import BoxProjection, Projection
from solver.flow.stepping import RK3, LowStorageScheme, StepControl
from solver.flow.wall_stress import Stress

P = ParamSpec("P")
R = TypeVar("R")


def _recorded_if_asked(
    method: Callable[Concatenate[Simulation, P], R],
) -> Callable[Concatenate[Simulation, P], R]:
    """No graph of what happens in a step, unless the simulation is `differentiable`: a run would keep it for ever."""

    @functools.wraps(method)
    def guarded(self: Simulation, *arguments: P.args, **named: P.kwargs) -> R:
        with torch.set_grad_enabled(self.differentiable and torch.is_grad_enabled()):
            return method(self, *arguments, **named)

    return guarded


class Simulation:
    """A flow in motion.

    Steps record gradients only where `differentiable` is True: if the initial velocity requires them, or once it is
    set. `closures.coupling.unrolled.Unrolled` sets it for as long as its steps take.

    Parameters
    ----------
    operators : the discrete calculus.
    velocity : initial coefficients; projected on entry, and given its mass flux or energy by the forcing, unless they
        are `settled`: what a checkpoint holds has been, and round-off should not tell two legs from one.
    nu : kinematic viscosity.
    closure : a subgrid model, or None for no model.
    forcing : what drives the flow.
    control : chooses dt.
    momentum, projection : those of a box without solids by default.
    t, step_count, closure_state : where a restart continues.
    """

    def __init__(
        self,
        operators: Operators,
        velocity: Components,
        nu: float,
        closure: Closure | None,
        forcing: Forcing,
        control: StepControl,
        scheme: LowStorageScheme = RK3,
        momentum: Momentum | None = None,
        projection: Projection | None = None,
        settled: bool = False,
    ) -> None:
        self.operators, self.nu, self.scheme = operators, nu, scheme
        self.closure, self.forcing, self.control = closure, forcing, control
        self.answers = Answers()
        self.differentiable = any(c.requires_grad for c in velocity)
        self.exact_diffusion = not operators.volume_axes
        self.momentum = momentum or Momentum(Strain(operators), 0.0 if self.exact_diffusion else nu)
        self.strain = self.momentum.strain
        self.projection = projection or BoxProjection(operators)
        self.closure_state: State = closure.init(operators) if closure else {}
        self.wall_stress = self.momentum.wall_stress
        self.wall_state: State = self.wall_stress.init() if self.wall_stress else {}
        self.corrector = closure if isinstance(closure, Corrector) else None
        self.surrogate = closure if isinstance(closure, Surrogate) else None
        self.t, self.step_count, self.dt = 0.0, 0, 0.0
        self.residual_trust = math.nan  # `misfit` of the last step, if the surrogate made it
        self.timers = operators.timers
        self.potential: Tensor
        self.stepped = False  # whether the potential is that of a stage
        if not settled:  # twice: a recipe may be far from solenoidal, and the first pass leaves round-off in proportion
            velocity = forcing.correct(self.project(self.project(velocity)), math.inf)
        self.velocity = Velocity(self.strain, velocity)

    @_recorded_if_asked
    def step(self, longest: float = math.inf) -> None:
        """Advance by the step the control chooses, but by no more than `longest`.

        A surrogate may take the place of the step, a corrector acts at its end.
        """
        with self.timers("other"):
            self._step(longest)

    def _step(self, longest: float) -> None:
        self.residual_trust = math.nan
        if self.surrogate and self.leap(self.surrogate, longest):
            return
        companion = self.surrogate or self.corrector
        wait = companion.wait(self.t) if companion else math.inf
        term = self.subgrid_term(self.t)
        dt = self.control.begin(self.velocity, term, self.nu, self.forcing.body_force, longest, wait)
        weights = self._weights(dt)
        previous: Components | None = None
        elapsed = 0.0
        for stage, span in enumerate(self.scheme.spans):
            if stage > 0:
                term = self.subgrid_term(self.t + elapsed)
            rate = self.tendency(term, self.stress_on_walls(self.t + elapsed))
            with self.timers("momentum"):
                u = self.velocity.coefficients
                velocity, previous = self._advance(u, rate, previous or rate, *weights[stage])
            if stage == 0:
                self.dt = self.control.settle()  # a GPU has the better part of the stage to do meanwhile
            velocity = self.project(velocity, span * self.dt)
            if self.forcing.is_affine or stage == self.scheme.stages - 1:
                velocity = self.forcing.correct(velocity, span * self.dt)
            self.velocity = Velocity(self.strain, velocity)
            elapsed += span * self.dt
        self.t += self.dt
        self.step_count += 1
        self.stepped = True
        if self.corrector:
            self.correct(self.corrector)

    def correct(self, corrector: Corrector) -> None:
        """Let the corrector change the velocity; the pressure stays that of the last stage."""
        potential = self.potential
        with self.timers("closure"):
            velocity, self.closure_state = corrector.correct(
                self.velocity, self.t, self.step_count, self.closure_state, self.project
            )
        self.potential = potential
        if velocity is not None:
            self.velocity = Velocity(self.strain, velocity)

    def leap(self, surrogate: Surrogate, longest: float) -> bool:
        """One macro step of the surrogate, if it is its turn, fits into `longest` and succeeds."""
        if surrogate.span > longest * (1 + 1e-9):
            return False
        seen = math.nan

        def misfit(answer: Components) -> float:
            nonlocal seen
            seen = self.misfit(answer, surrogate.span)
            return seen

        with self.timers("closure"):
            velocity, self.closure_state = surrogate.advance(
                self.velocity, self.t, self.closure_state, self.project, misfit
            )
        if velocity is None:
            return False
        self.residual_trust = seen
        self.velocity = Velocity(self.strain, velocity)
        self.control(self.velocity, None, self.nu)  # raises if the velocity is not finite
        self.dt, self.control.limit = surrogate.span, "surrogate"
        self.t += self.dt
        self.step_count += 1
        # for observers: the pressure that the present tendency calls for, in the units of a last stage
        self.potential = self._called_for(self.present_term()) * (self.scheme.spans[-1] * self.dt)
        self.stepped = True
        return True

    def subgrid_term(self, t: float) -> SubgridTerm | None:
        """The closure's term for the present velocity; its state moves on."""
        if self.closure is None:
            return None
        with self.timers("closure"):
            term, self.closure_state = self.answers(self.closure, self.velocity, t, self.closure_state, keep=False)
        return term

    @_recorded_if_asked
    def present_term(self) -> SubgridTerm | None:
        """The closure's term for the present velocity, for observers: the state stays where it is."""
        if self.closure is None:
            return None
        return self.answers(self.closure, self.velocity, self.t, self.closure_state, keep=True)[0]

    def stress_on_walls(self, t: float) -> Stress | None:
        """What the wall model makes of the present velocity; its state moves on."""
        if self.wall_stress is None:
            return None
        with self.timers("wall model"):
            stress, self.wall_state = self.wall_stress(self.velocity, t, self.wall_state)
        return stress

    @_recorded_if_asked
    def present_stress(self) -> Stress | None:
        """The same for observers: the state stays where it is (collective)."""
        return self.wall_stress(self.velocity, self.t, self.wall_state)[0] if self.wall_stress else None

    def tendency(self, term: SubgridTerm | None, stress: Stress | None = None) -> Components:
        """``du/dt`` of the present velocity without pressure, and without the diffusion that is integrated exactly."""
        with self.timers("momentum"):
            rate = self.forcing.accelerate(self.momentum.tendency(self.velocity, term, stress))
            if self.forcing.is_affine:
                return rate
            return self.forcing.restrain(self.velocity.coefficients, rate, self.nu if self.exact_diffusion else 0.0)

    def slope(self, coefficients: Components, t: float | None = None) -> Components:
        """``du/dt`` at a velocity, now or at `t`, by the equations as discretised: with pressure, diffusion, forcing.

        Closures and wall models that remember start afresh. Nothing of the run changes; with solids the next pressure
        has no guess. Gradients flow through it. Restrained after projection: where solids stand only a divergence-free
        tendency says what the bulk velocity will do; without them the order does not matter.
        """
        velocity, closure = Velocity(self.strain, coefficients), self.closure
        t = self.t if t is None else t
        term = None if closure is None else closure(velocity, t, closure.init(self.operators))[0]
        walls = self.wall_stress
        stress = None if walls is None else walls(velocity, t, walls.init())[0]
        with self.timers("momentum"):
            u, v, w = self.forcing.accelerate(self.momentum.tendency(velocity, term, stress))
            if self.exact_diffusion:
                k2 = self.nu * self.operators.squared_wavenumber
                u, v, w = (f - k2 * c for f, c in zip((u, v, w), coefficients, strict=True))
        with self.timers("pressure"):
            rate, _ = self.projection((u, v, w), 0.0)
        return self.forcing.restrain(coefficients, rate)

    def misfit(self, after: Components, span: float) -> float:
        """How far from the equations it is to be at `after` a time `span` from now; the same on every rank.

        ``|(u1 - u0) / span - F((u0 + u1) / 2)| / |F(u0)|`` with F the `slope`, volume-mean L2: the implicit midpoint
        rule. 0: the equations hold; 1: as wrong as a field that does not move. It vanishes as the square of a span that
        resolves the flow. Over longer ones it measures trust and bounds no error: exact answers are off zero as well.
        """
        before = self.velocity.coefficients
        a, b, c = (0.5 * (f + g) for f, g in zip(before, after, strict=True))
        middle = self.slope((a, b, c), self.t + 0.5 * span)
        u, v, w = ((g - f) / span - m for f, g, m in zip(before, after, middle, strict=True))
        size, scale = self._size((u, v, w)), self._size(self.slope(before))
        return float(size / scale.clamp_min(torch.finfo(scale.dtype).tiny))

    def _size(self, field: Components) -> Tensor:
        """Root of the volume mean of the square of a vector field."""
        u, v, w = (self.operators.inner_product(f, f, i) for i, f in enumerate(field))
        return (u + v + w).sqrt()

    def _weights(self, dt: Tensor) -> list[tuple[Tensor, ...]]:
        """``gamma dt``, ``rho dt`` and ``nu span dt`` of each stage, made on the device.

        The last is for diffusion that is integrated exactly: everything decays by ``exp(-nu k^2 span dt)``.
        """
        weights = (self._shares * dt).to(self.operators.dtype)
        return [stage.unbind() for stage in weights[..., 0].unbind()]

    @cached_property
    def _shares(self) -> Tensor:
        """`_weights` over dt, float64: each in a cell of 16 bytes, which compiled kernels take for granted."""
        scheme, decay = self.scheme, self.nu if self.exact_diffusion else 0.0
        shares = [scheme.gamma, scheme.rho, [decay * span for span in scheme.spans]]
        cells = np.zeros((scheme.stages, 3, 4))
        cells[..., 0] = np.transpose(shares)
        return torch.as_tensor(cells, device=self.operators.device)

    @fused
    def _advance(
        self,
        velocity: Components,
        rate: Components,
        previous: Components,
        gamma: Tensor,
        rho: Tensor,
        decay: Tensor,
    ) -> tuple[Components, Components]:
        """Velocity after a stage, before forcing and projection, and the tendency the next stage remembers."""
        u, v, w = (c + (gamma * r + rho * p) for c, r, p in zip(velocity, rate, previous, strict=True))
        if not self.exact_diffusion:
            return (u, v, w), rate
        factor = torch.exp(-decay * self.operators.squared_wavenumber)
        return (factor * u, factor * v, factor * w), (factor * rate[0], factor * rate[1], factor * rate[2])

    def project(self, velocity: Components, span: float = 0.0) -> Components:
        """The divergence-free part of a velocity, at the end of a stage that covers `span` time units."""
        with self.timers("pressure"):
            velocity, self.potential = self.projection(velocity, span)
            return velocity

    def pressure(self, term: SubgridTerm | None) -> Tensor:
        """Kinematic pressure at cell centres, (nx, local ny, nz), for observers; `term` is of the present velocity.

        That of the last stage, without the diagonal flux that momentum left to it. Before the first step of this
        process: what the present tendency calls for (collective).
        """
        called_for = self.pressure_coefficients if self.stepped else self._called_for(term)
        p, k = self.operators.to_physical(called_for), self.momentum.trace
        if k is None:
            return p
        p = p - self.velocity.centred[k] ** 2
        if isinstance(term, EddyViscosity):
            return p + 2.0 * term.nu_t * self.velocity.gradient[k][k]
        return p - term.tau[k] if isinstance(term, SubgridStress) else p

    def _called_for(self, term: SubgridTerm | None) -> Tensor:
        return self.projection(self.tendency(term, self.present_stress()), 0.0)[1]

    @property
    def pressure_coefficients(self) -> Tensor:
        """Kinematic pressure of the last stage, with the diagonal flux that momentum left to it (see `Momentum`)."""
        return self.potential / (self.scheme.spans[-1] * self.dt)

    @property
    def max_divergence(self) -> float:
        """Largest ``|div u|`` over the points of the grid."""
        op = self.operators
        return float(op.decomposition.max(op.to_physical(op.divergence(self.velocity.coefficients)).abs().max()))
