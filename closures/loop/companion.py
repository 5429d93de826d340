"""What a corrector and a surrogate have in common: a closure that acts during the solver's own steps."""

from __future__ import annotations

from typing import Any, Literal

from closures.loop.guard import COUNTS, Guard, Overruled
from closures.loop.whole_field import Misfit, Project, WholeField
from solver.closure import Closure, State, SubgridTerm
from solver.operators import Components, Operators
from solver.velocity import Velocity

NEAR = 1e-6  # of an interval: two instants are the same


class Companion:
    """An operator on the whole field beside the closure `base` (or none) of the solver's steps."""

    reach: int | Literal["global"] = "global"
    symmetries: frozenset[str] = frozenset()

    def __init__(self, name: str, field: WholeField, base: Closure | None, facts: dict[str, Any] | None = None) -> None:
        self.name, self.field, self.base, self.guard = name, field, base, field.guard
        self.facts = facts or {}

    def init(self, operators: Operators) -> State:
        """Counts, and what the base remembers; the weights move to their device."""
        self.field.place(operators)
        return Guard.start() | (self.base.init(operators) if self.base else {})

    def __call__(self, velocity: Velocity, t: float, state: State) -> tuple[SubgridTerm | None, State]:
        """The term of the base."""
        if self.base is None:
            return None, state
        term, remembered = self.base(velocity, t, {k: v for k, v in state.items() if k != COUNTS})
        return term, remembered | {COUNTS: state[COUNTS]}

    def attempt(
        self, velocity: Velocity, t: float, state: State, project: Project, misfit: Misfit | None = None
    ) -> tuple[Components | None, State]:
        """The network's velocity, or None if it was refused; and the state with the verdict."""
        try:
            result = self.field(velocity, project)
            if misfit is not None:
                self.guard.check_residual(misfit(result))
        except Overruled as problem:
            return None, self.guard.overruled(state, str(problem), t)
        return result, self.guard.passed(state)
