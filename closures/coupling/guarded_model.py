"""A learned subgrid model under guard: its answer, or that of an algebraic closure."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from closures.coupling.guard import MARGIN, Guard, GuardTable, attempted, joined, parted
from closures.coupling.strength import StrengthCheck
from closures.coupling.zero_order_hold import ZeroOrderHold
from solver.discretisation.calculus import Operators
from solver.discretisation.velocity import Velocity
from solver.flow.closure import Closure, State, SubgridTerm

LARGEST_STRESS = 0.5  # rms of tau over that of delta^2 |g|^2; Smagorinsky's is about 0.03
ORDINARY_STRESS = 0.1  # never too large: another flow may ask for more than a network was trained on
ROUND_OFF = 1e-6


class Learned(Closure, Protocol):
    """A closure in two halves: what it reads takes all ranks, what it answers is a matter of one."""

    def features(self, velocity: Velocity) -> Any:
        """What the network reads (collective)."""
        ...

    def evaluate(self, features: Any, operators: Operators) -> SubgridTerm:
        """The answer on this rank; it may fail with whatever a network fails with."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What one rank has to say about an evaluation."""

    term: SubgridTerm | None
    problem: str | None = None


class GuardedModel:
    """A learned subgrid model under guard, with an algebraic closure (or none) in reserve.

    The state holds the counts, that of the reserve under its own names, and what `ZeroOrderHold` keeps.
    """

    def __init__(
        self, model: Learned, reserve: Closure | None, settings: GuardTable, largest: float | None, calls: int = 1
    ) -> None:
        self.hold = ZeroOrderHold(calls)
        self.model, self.reserve = model, reserve
        self.name = model.name
        self.reach: int | Literal["global"] = model.reach
        self.symmetries: frozenset[str] = getattr(model, "symmetries", frozenset())
        self.facts: dict[str, Any] = getattr(model, "facts", {})
        self.slabs: tuple[str, ...] = tuple(getattr(reserve, "slabs", ()))
        self.guard = Guard(settings, model.name, f"'{reserve.name}'" if reserve else "no model")
        self.injection, self.meter = settings.injection, StrengthCheck()
        self.size = settings.size or (max(MARGIN * largest, ORDINARY_STRESS) if largest else LARGEST_STRESS)

    def init(self, operators: Operators) -> State:
        """Counts, and what the two closures remember."""
        self.model.init(operators)
        return joined(Guard.start(), self.reserve, operators)

    def __call__(self, velocity: Velocity, t: float, state: State) -> tuple[SubgridTerm | None, State]:
        """The network's term, or that of the reserve."""
        return self.hold(state, lambda own: self._asked(velocity, t, own))

    def _asked(self, velocity: Velocity, t: float, state: State) -> tuple[SubgridTerm | None, State]:
        if Guard.is_off(state):
            return self._instead(velocity, t, state)
        features = self.model.features(velocity)
        outcome = self._evaluate(features, velocity.operators)
        reason = self._objection(outcome, velocity)
        if reason is None:
            assert outcome.term is not None
            return outcome.term, self.guard.passed(state)
        return self._instead(velocity, t, self.guard.overruled(state, reason, t))

    def _evaluate(self, features: Any, operators: Operators) -> Outcome:
        started = time.perf_counter()

        def act() -> SubgridTerm:
            term = self.model.evaluate(features, operators)
            self.guard.check_time(started, operators.device)
            return term

        return Outcome(*attempted(act))

    def _objection(self, outcome: Outcome, velocity: Velocity) -> str | None:
        """Why the answer may not be used, the same verdict on every rank (collective)."""
        operators = velocity.operators
        local = operators.tensor(0.0).repeat(6)
        if outcome.term is None:
            local[0] = 1.0
        else:
            local[1:] = self.meter(outcome.term, velocity)
        failed, strange, size, size_scale, drained, drain_scale = operators.decomposition.sum(local).tolist()
        if failed:
            return outcome.problem or "it failed: on another rank"
        if strange:
            return f"its answer is not finite: at {strange:.0f} points"
        if size > (self.size**2 + ROUND_OFF) * size_scale:
            return f"its answer is too large: {(size / max(size_scale, 1e-300)) ** 0.5:.3g}, at most {self.size:.3g}"
        if drained < -(self.injection + ROUND_OFF) * drain_scale:
            share = -drained / max(drain_scale, 1e-300)
            return f"it feeds energy to the flow: {share:.3g}, at most {self.injection:g}"
        return None

    def _instead(self, velocity: Velocity, t: float, state: State) -> tuple[SubgridTerm | None, State]:
        if self.reserve is None:
            return None, state
        own, inner = parted(state)
        term, remembered = self.reserve(velocity, t, inner)
        return term, remembered | own
