"""Steppers: the solver's own step, and what wraps it where a network corrects it or takes its place.

A stepper makes the next state from a state: ``stepper(state, longest, wait)``. The step is not longer than `longest`,
and a whole number of equal ones makes up `wait`, the time until something is due.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Protocol

from solver.discretisation.calculus import Components
from solver.flow.closure import Corrector, Surrogate
from solver.flow.flow import Flow
from solver.flow.graph import GraphStep, Recorder
from solver.flow.number import Number
from solver.flow.projection import Pressure
from solver.flow.runge_kutta import RK3, runge_kutta
from solver.flow.state import State
from solver.flow.time_step import StepControl


class Stepper(Protocol):
    """See the module."""

    def __call__(self, state: State, longest: float = math.inf, wait: float = math.inf) -> State:
        """The next state."""
        ...


class SolverStep:
    """A Runge-Kutta step of the length that the control chooses."""

    def __init__(self, flow: Flow, control: StepControl) -> None:
        self.flow, self.control = flow, control

    def __call__(self, state: State, longest: Number = math.inf, wait: float = math.inf) -> State:
        """See `Stepper`."""
        flow = self.flow
        dt = self.control(
            state.velocity, flow.present_term(state), flow.diffusivity, flow.forcing.body_force, longest, wait
        )
        return runge_kutta(flow, state, dt, RK3)


class Corrected:
    """A corrector acts after each step; the pressure stays that of the last stage."""

    def __init__(self, flow: Flow, step: Stepper, corrector: Corrector) -> None:
        self.flow, self.step, self.corrector = flow, step, corrector

    def __call__(self, state: State, longest: float = math.inf, wait: float = math.inf) -> State:
        """See `Stepper`."""
        return self.corrected(self.step(state, longest, min(wait, self.corrector.wait(float(state.t)))))

    def corrected(self, state: State) -> State:
        """The state with its velocity corrected, if that is due."""
        with self.flow.timers("closure"):
            t, solenoidal = float(state.t), self.flow.solenoidal
            u, memory = self.corrector.correct(state.velocity, t, state.step, state.closure, solenoidal)
        return replace(state, velocity=state.velocity if u is None else self.flow.velocity(u), closure=memory)


class Alternating:
    """A surrogate's macro steps where it is its turn, fits into `longest` and succeeds, else the solver's.

    Attributes
    ----------
    residual : `Flow.midpoint_residual` of the last step if the surrogate made it, else nan.
    misfit : `Flow.midpoint_misfit` of that step, else None.
    """

    residual = math.nan
    misfit: Components | None = None

    def __init__(self, flow: Flow, step: Stepper, control: StepControl, surrogate: Surrogate) -> None:
        self.flow, self.step, self.control, self.surrogate = flow, step, control, surrogate

    def __call__(self, state: State, longest: float = math.inf, wait: float = math.inf) -> State:
        """See `Stepper`."""
        self.residual, self.misfit, seen, off = math.nan, None, math.nan, None
        before, span, t = state.velocity.coefficients, self.surrogate.span, float(state.t)

        def misfit(after: Components) -> float:
            nonlocal seen, off
            off = self.flow.midpoint_misfit(before, after, t, span)
            seen = self.flow.relative_size(off, before, t)
            return seen

        if span <= longest * (1 + 1e-9):
            with self.flow.timers("closure"):
                solenoidal = self.flow.solenoidal
                u, memory = self.surrogate.advance(state.velocity, t, state.closure, solenoidal, misfit)
            state = replace(state, closure=memory)
            if u is not None:
                self.residual, self.misfit = seen, off
                return self._after(state, u)
        return self.step(state, longest, min(wait, self.surrogate.wait(t)))

    def _after(self, state: State, u: Components) -> State:
        """The state after a macro step, with the pressure that the present tendency calls for."""
        velocity, span = self.flow.velocity(u), self.surrogate.span
        float(self.control(velocity, None, self.flow.nu))  # raises if it is not finite
        self.control.limit = "surrogate"
        after = replace(state, velocity=velocity, t=state.t + span, step=state.step + 1, dt=span, impulse=None)
        called_for = self.flow.projected(self.flow.present_tendency(after)).pressure.kinematic
        return replace(after, pressure=Pressure(called_for, 1.0))


def stepper(flow: Flow, control: StepControl, recorder: Recorder | None = None) -> Stepper:
    """The solver's step, by graphs if there is a `recorder`, wrapped as the closure of the flow wants it."""
    plain = SolverStep(flow, control)
    step: Stepper = plain if recorder is None else GraphStep(flow, control, recorder, plain)
    if isinstance(flow.closure, Surrogate):
        return Alternating(flow, step, control, flow.closure)
    return Corrected(flow, step, flow.closure) if isinstance(flow.closure, Corrector) else step
