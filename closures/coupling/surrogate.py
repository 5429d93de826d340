"""An operator in place of the solver's steps, alone or in turns with it."""

from __future__ import annotations

import math
from typing import Any

from closures.coupling.companion import CLOCK, NEAR, Companion
from closures.coupling.draws import Draws
from closures.coupling.guard import Guard
from closures.coupling.guarded_update import GuardedUpdate, Misfit
from closures.coupling.update import Project
from solver.discretisation.calculus import Components
from solver.discretisation.velocity import Velocity
from solver.flow.closure import Closure, State


class StateSurrogate(Companion):
    """``u(t + span) = P(network(u(t)))``: `macro` such steps, then the solver for a time `between`, and so on.

    Where the guard refuses an answer the solver does that span. Whose turn it is depends on the time alone, so a
    restart falls into the same rhythm. At walls at rest nothing has to be imposed: the network's values lie at cell
    centres, the component through a wall is zero there whatever it says, and the others are held by the scheme.

    Parameters
    ----------
    name, update, base, facts, solver_step, draws : see `Companion`; `base` is the subgrid model of the solver's steps.
    span : of one macro step.
    macro : macro steps in a row.
    between : time of the solver after them; 0: never its turn.
    start : time from which on it acts; the solver leads up to it.
    """

    def __init__(
        self,
        name: str,
        update: GuardedUpdate,
        base: Closure | None,
        *,
        span: float,
        macro: int = 1,
        between: float = 0.0,
        start: float = 0.0,
        facts: dict[str, Any] | None = None,
        solver_step: float = 0.0,
        draws: Draws | None = None,
    ) -> None:
        super().__init__(name, update, base, facts, solver_step, draws)
        self.span, self.macro, self.start = span, macro, start
        self.cycle = macro * span + between

    def _position(self, t: float) -> tuple[int, float]:
        """Which macro step of its cycle `t` is in, or at the start of, and the time since the cycle began."""
        past = t - self.start
        past -= math.floor(past / self.cycle + NEAR * self.span / self.cycle) * self.cycle
        return math.floor(past / self.span + NEAR), past

    def is_due(self, t: float) -> bool:
        """Whether a macro step begins at `t`."""
        if t < self.start - NEAR * self.span:
            return False
        number, past = self._position(t)
        return number < self.macro and past - number * self.span <= NEAR * self.span

    def wait(self, t: float) -> float:
        """Time to the next instant at which a macro step may begin."""
        if t < self.start - NEAR * self.span:
            return self.start - t
        number, past = self._position(t)
        following = (number + 1) * self.span if number + 1 < self.macro else self.cycle
        return following - past

    def advance(
        self, velocity: Velocity, t: float, state: State, project: Project, misfit: Misfit
    ) -> tuple[Components | None, State]:
        """See `solver.flow.closure.Surrogate`."""
        state = self.watch(t, state)
        if Guard.is_off(state) or not self.is_due(t):
            return None, state
        answer, state = self.attempt(velocity, t, state, project, misfit)
        if answer is not None:
            state = state | {CLOCK: state[CLOCK] * state[CLOCK].new_tensor([math.nan, 1.0])}
        return answer, state
