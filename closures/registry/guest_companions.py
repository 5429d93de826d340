"""Correctors and surrogates of other packages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from closures.coupling.companion import Companion
from closures.registry.guest import Guest
from solver.case.plugins import Origin
from solver.discretisation.calculus import Components, Operators
from solver.discretisation.velocity import Velocity
from solver.flow.closure import Closure, Corrector, State, Surrogate

Project = Callable[[Components], Components]
Update = tuple[Components | None, State]


class GuestCompanion(Guest):
    """A closure of another package that also acts between steps; it gathers the field itself if it needs all of it."""

    gathers = False

    def init(self, operators: Operators) -> State:
        """The state before the first step; raises ClosureError where it would see a part of the field only."""
        slabs = operators.decomposition
        if self.reach == "global" and slabs.size > 1 and not isinstance(self.closure, Companion):
            raise self.checks.problem(
                f"changes the whole field, of which each of {slabs.size} ranks has a part: build it on "
                "closures.coupling.GuardedUpdate, which gathers, or use one rank"
            )
        return super().init(operators)

    def wait(self, t: float) -> float:
        """See `solver.flow.closure.Companion`."""
        with self.checks.named("wait"):
            return float(self.closure.wait(t))

    def _updated(self, answer: Any, velocity: Velocity, method: str, first: bool) -> Update:
        """The velocity that was answered, checked."""
        after, state = self.checks.pair(answer, method)
        if after is not None:
            if not isinstance(after, tuple) or len(after) != 3:
                raise self.checks.problem(f"{method} should answer with three coefficient fields, or None")
            shapes = [tuple(c.shape) for c in velocity.coefficients]
            expected = " ".join(map(str, shapes))
            self.checks.fields(after, shapes, expected, "the coefficients of u, v, w", velocity.operators, first)
        return after, state


class GuestCorrector(GuestCompanion):
    """A corrector of another package."""

    def correct(self, velocity: Velocity, t: float, step: int, state: State, project: Project) -> Update:
        """See `solver.flow.closure.Corrector`."""
        with self.watched(velocity) as first, self.checks.named("correct"):
            answer = self.closure.correct(velocity, t, step, state, project)
        return self._updated(answer, velocity, "correct", first)


class GuestSurrogate(GuestCompanion):
    """A surrogate of another package."""

    @property
    def span(self) -> float:
        """Length of a macro step."""
        return float(self.closure.span)

    def advance(
        self, velocity: Velocity, t: float, state: State, project: Project, misfit: Callable[[Components], float]
    ) -> Update:
        """See `solver.flow.closure.Surrogate`."""
        with self.watched(velocity) as first, self.checks.named("advance"):
            answer = self.closure.advance(velocity, t, state, project, misfit)
        return self._updated(answer, velocity, "advance", first)


def admit(closure: Closure, origin: Origin, files: dict[str, Any] | None = None) -> Guest:
    """A closure of another package in the role it has; raises ClosureError where it is none."""
    if isinstance(closure, Surrogate):
        return GuestSurrogate(closure, origin, files)
    return GuestCorrector(closure, origin, files) if isinstance(closure, Corrector) else Guest(closure, origin, files)
