"""An operator that corrects the velocity after every n-th step, or at fixed intervals of time."""

from __future__ import annotations

import math
from typing import Any

from closures.coupling.companion import NEAR, Companion
from closures.coupling.draws import Draws
from closures.coupling.guard import Guard
from closures.coupling.guarded_update import GuardedUpdate
from closures.coupling.update import Project
from solver.discretisation.calculus import Components
from solver.discretisation.velocity import Velocity
from solver.flow.closure import Closure, State


class StateCorrector(Companion):
    """``u <- P(u + change(u))`` with the solver's projection P and, by default, the mass flux of u.

    Parameters
    ----------
    name, update, base, facts, solver_step, draws : see `Companion`; `base` is the subgrid model of the steps.
    every : steps between corrections; None where they follow `interval`.
    interval : time between corrections, the one the network was trained for; steps then end at its multiples.
    start : time from which on it acts.
    """

    def __init__(
        self,
        name: str,
        update: GuardedUpdate,
        base: Closure | None,
        *,
        every: int | None = None,
        interval: float = 0.0,
        start: float = 0.0,
        facts: dict[str, Any] | None = None,
        solver_step: float = 0.0,
        draws: Draws | None = None,
    ) -> None:
        super().__init__(name, update, base, facts, solver_step, draws)
        self.every = every or (None if interval else 1)
        self.interval, self.start = interval, start

    def wait(self, t: float) -> float:
        """Time to the next multiple of the interval; infinite where steps are counted."""
        if self.every:
            return math.inf
        done = math.floor((t - self.start) / self.interval + NEAR)
        return self.start + max(done + 1, 1) * self.interval - t

    def is_due(self, t: float, step: int) -> bool:
        """Whether the state at `t`, after step number `step`, is to be corrected."""
        if t < self.start:
            return False
        if self.every:
            return step % self.every == 0
        intervals = (t - self.start) / self.interval
        return round(intervals) > 0 and abs(intervals - round(intervals)) <= NEAR

    def correct(
        self, velocity: Velocity, t: float, step: int, state: State, project: Project
    ) -> tuple[Components | None, State]:
        """See `solver.flow.closure.Corrector`."""
        state = self.watch(t, state)
        if Guard.is_off(state) or not self.is_due(t, step):
            return None, state
        return self.attempt(velocity, t, state, project)
