"""An update under guard, as runs have it: answers are checked before they are used, and the flow after them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from closures.coupling.familiarity import Familiarity
from closures.coupling.guard import MARGIN, UNKNOWN, Guard, Overruled
from closures.coupling.update import Project, Update
from closures.operators.predictor import Predictor
from solver.discretisation.calculus import Components, Operators
from solver.discretisation.velocity import Velocity
from solver.grid.grid import Grid
from solver.observers.series import fluctuation_energy

Misfit = Callable[[Components], float]  # of an answer to the solver's equations
LARGEST_CHANGE = 5.0  # rms of a change in units of the card, where the card has no record of its own


class GuardedUpdate:
    """The change that an operator makes to a velocity, under guard; without gradients.

    Parameters
    ----------
    predictor, grid, update : see `Update`; `update` are its other arguments.
    guard : what it may do.
    largest : greatest change in the training data, rms in units of the card; None if unknown.
    known : the flows that the network knows; None if that is not known.
    """

    def __init__(
        self,
        predictor: Predictor,
        grid: Grid,
        guard: Guard,
        *,
        largest: float | None = None,
        known: Familiarity | None = None,
        **update: Any,
    ) -> None:
        self.known = known
        self.update, self.guard = Update(predictor.eval(), grid, **update), guard
        self.size = guard.settings.size or (MARGIN * largest if largest else LARGEST_CHANGE)

    def prepare(self, operators: Operators) -> None:
        """See `Update.prepare`."""
        self.update.prepare(operators)

    def __call__(self, velocity: Velocity, project: Project, seeds: Sequence[int] = ()) -> Components:
        """The velocity with the network's change (collective); `seeds`: see `Update.evaluated`.

        Raises
        ------
        Overruled : on every rank, with the reason.
        """
        operators = velocity.operators
        seen = self.update.seen(velocity)

        def answer() -> Tensor:
            assert seen is not None  # where it acts
            return self._answer(operators, seen, seeds)

        change, reason = self.update.sharing(operators).verdict(answer)
        if reason is not None:
            raise Overruled(reason)
        result = self.update.limited(velocity, seen, self.update.changed(velocity, change, project), project)
        self._check_energy(operators, velocity.coefficients, result)
        return result

    def _answer(self, operators: Operators, seen: Tensor, seeds: Sequence[int]) -> Tensor:
        """The change, where it is evaluated; raises Overruled for a foreign flow before it is."""
        started = time.perf_counter()
        self._check_known(operators, seen)
        change = self.update.evaluated(operators, seen, seeds)
        self._check_size(operators, change)
        self.guard.check_time(started, change.device)
        return change

    def familiarity(self, velocity: Velocity) -> float:
        """How far a flow is from those that the network knows, see `Familiarity.distance`; nan if that is not known."""
        known, sharing, seen = self.known, self.update.sharing(velocity.operators), self.update.seen(velocity)
        if known is None:
            return math.nan
        far = float(known.distance(seen, sharing.own)) if seen is not None else math.nan
        return float(velocity.operators.decomposition.broadcast(far))

    def _check_known(self, operators: Operators, seen: Tensor) -> None:
        """Whether the flow is one that the network knows."""
        if self.known is None:
            return
        far = float(self.known.distance(seen, self.update.sharing(operators).own))
        if far > (limit := self.guard.settings.familiar):
            raise Overruled(f"{UNKNOWN}: {far:.3g} times as far from its own as these reach, at most {limit:g}")

    def _check_size(self, operators: Operators, change: Tensor) -> None:
        """Whether the change is finite and no larger than it may be."""
        assert self.update.predictor is not None
        sharing, units = self.update.sharing(operators), self.update.predictor.units(change)[2][0]
        squares = (((change / units) ** 2).mean(0) * sharing.own.like(change).volumes).sum()
        large = float(sharing.total(squares).sqrt())
        if not large < float("inf"):
            raise Overruled("its answer is not finite")
        if large > self.size:
            raise Overruled(f"its answer is too large: {large:.3g}, at most {self.size:.3g}")

    def _check_energy(self, operators: Operators, before: Components, after: Components) -> None:
        """Whether the energy of the fluctuations is finite and has not grown by more than the guard allows."""
        energy = torch.stack([fluctuation_energy(operators, u) for u in (before, after)])
        old, new = energy.tolist()
        if not new < float("inf"):
            raise Overruled("its answer is not finite: after the projection")
        limit = self.guard.settings.growth
        if new > limit * old:
            raise Overruled(f"it feeds energy to the flow: {new / max(old, 1e-300):.3g} times, at most {limit:g}")
