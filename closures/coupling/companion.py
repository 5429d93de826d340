"""What a corrector and a surrogate have in common: a closure that acts during the solver's own steps."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any, Literal

import torch

from closures.coupling.draws import Draws
from closures.coupling.guard import COUNTS, SAID, Guard, Overruled, joined, parted
from closures.coupling.guarded_update import GuardedUpdate, Misfit
from closures.coupling.update import Project
from solver.discretisation.calculus import Components, Operators
from solver.discretisation.velocity import Velocity
from solver.flow.closure import Closure, State, SubgridTerm

CLOCK = "clock"  # this entry of a state: when a step last ended, and how many were of another length
TURN = "turn"  # and this one, of a network that draws: how often it has been asked
NEAR = 1e-6  # of an interval: two instants are the same
OTHER = 10  # steps of another length before it is said: some end where a snapshot is due

log = logging.getLogger("solver")


class Companion:
    """An operator on the whole field beside the closure `base` (or none) of the solver's steps.

    What corrects the solver makes up for the error of its time step too: the log says so, once, where steps are less
    than 0.7 or more than 1.4 times `solver_step`, which is their length in training (0: not known). A network that
    draws is given seeds by `draws`, a function of how often it was asked: a restart goes on with the noise it had.
    """

    reach: int | Literal["global"] = "global"
    symmetries: frozenset[str] = frozenset()

    def __init__(
        self,
        name: str,
        update: GuardedUpdate,
        base: Closure | None,
        facts: dict[str, Any] | None = None,
        solver_step: float = 0.0,
        draws: Draws | None = None,
    ) -> None:
        self.name, self.update, self.base, self.guard = name, update, base, update.guard
        self.facts = facts or {}
        self.slabs: tuple[str, ...] = tuple(getattr(base, "slabs", ()))
        self.solver_step, self.draws = solver_step, draws

    def init(self, operators: Operators) -> State:
        """Counts, and what the base remembers; the weights move to their device."""
        self.update.prepare(operators)
        clock = {CLOCK: torch.tensor([math.nan, 0.0], dtype=torch.float64)}
        turn = {TURN: torch.zeros((), dtype=torch.int64)} if self.draws else {}
        return joined(Guard.start() | clock | turn, self.base, operators)

    def __call__(self, velocity: Velocity, t: float, state: State) -> tuple[SubgridTerm | None, State]:
        """The term of the base."""
        if self.base is None:
            return None, state
        own, inner = parted(state, (COUNTS, SAID, CLOCK, TURN))
        term, remembered = self.base(velocity, t, inner)
        return term, remembered | own

    @property
    def series_columns(self) -> dict[str, Callable[[Velocity], float]]:
        """Columns that it adds to the time series of a run, of the velocity at its end of a step; collective."""
        return {"familiarity": self.update.familiarity} if self.update.known is not None else {}

    def watch(self, t: float, state: State) -> State:
        """Compare the step that led to `t` with those of the training; the first of all, and macro steps, are none."""
        seen, others = state[CLOCK].tolist()
        step = t - seen
        if self.solver_step and (step < 0.7 * self.solver_step or step > 1.4 * self.solver_step):
            others += 1
            if others == OTHER:
                log.warning(
                    "t = %.6g: '%s' was trained beside solver steps of %.3g, here they are %.3g: set [time] cfl "
                    "or dt so that they are alike, or watch its errors",
                    *(t, self.name, self.solver_step, step),
                )
        return state | {CLOCK: torch.tensor([t, others], dtype=torch.float64)}

    def attempt(
        self, velocity: Velocity, t: float, state: State, project: Project, misfit: Misfit | None = None
    ) -> tuple[Components | None, State]:
        """The network's velocity, or None if it was refused; and the state with the verdict."""
        seeds: tuple[int, ...] = ()
        if self.draws is not None:
            seeds, state = self.draws.seeds(int(state[TURN])), state | {TURN: state[TURN] + 1}
        try:
            result = self.update(velocity, project, seeds)
            if misfit is not None:
                self.guard.check_residual(misfit(result))
        except Overruled as problem:
            return None, self.guard.overruled(state, str(problem), t)
        return result, self.guard.passed(state)
