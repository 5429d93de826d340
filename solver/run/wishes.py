"""Who makes the steps of a run: it asks for each, and by itself or together with others it gets it."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import TypeVar

from solver.errors import CaseError, SolverError
from solver.flow.batch import Batch
from solver.flow.simulation import Simulation
from solver.terminal import record

T = TypeVar("T")


@dataclass(frozen=True)
class Wish:
    """A step that is wanted of a flow, no longer than `longest`; what goes wrong is thrown where it was wished for."""

    simulation: Simulation
    longest: float


Wishing = Generator[Wish, None, T]


def alone(run: Wishing[T]) -> T:
    """What a run comes to whose flow is advanced by itself."""
    try:
        wish = next(run)
        while True:
            try:
                wish.simulation.step(longest=wish.longest)
            except BaseException as problem:
                wish = run.throw(problem)
            else:
                wish = next(run)
    except StopIteration as end:
        found: T = end.value
        return found


class Running:
    """A run on its way, in a context of its own: what is logged in it is its own."""

    def __init__(self, run: Wishing[int]) -> None:
        self.run, self.context = run, copy_context()
        self.wish: Wish | None = None
        self.end: int | SolverError | None = None

    def go_on(self, problem: BaseException | None = None) -> None:
        """To its next wish, or its end."""
        context: Context = self.context
        try:
            self.wish = context.run(next, self.run) if problem is None else context.run(self.run.throw, problem)
        except StopIteration as end:
            self.wish, self.end = None, end.value
        except SolverError as error:
            self.wish, self.end = None, error


def together(runs: Sequence[Wishing[int]]) -> list[int | SolverError]:
    """The exit codes of runs of flows that differ in their states alone, or why they failed; on one rank.

    They are advanced as one until half of them have ended, then one by one: a batch costs as much with few that count.
    """
    running = [Running(run) for run in runs]
    for one in running:
        one.go_on()
    begun = [one for one in running if one.wish is not None]
    batch = _batch([one.wish.simulation for one in begun if one.wish is not None])
    while under_way := [one for one in begun if one.wish is not None]:
        if batch is not None and 2 * len(under_way) > len(begun):
            _step(batch, begun)
        else:
            for one in under_way:
                _step_alone(one)
    return [one.end for one in running if one.end is not None]


def _batch(flows: Sequence[Simulation]) -> Batch | None:
    """All flows as one, if there are several and they can be."""
    if len(flows) < 2:
        return None
    try:
        return Batch(flows)
    except CaseError as reason:
        record.info("%s; they are advanced one by one", reason)
        return None


def _step(batch: Batch, running: Sequence[Running]) -> None:
    """One step of all; those that have ended are passengers."""
    problem: BaseException | None = None
    try:
        batch.step([math.inf if one.wish is None else one.wish.longest for one in running])
    except BaseException as caught:
        problem = caught
    for number, one in enumerate(running):
        if one.wish is not None:
            one.go_on(problem or batch.lost.get(number))


def _step_alone(one: Running) -> None:
    assert one.wish is not None
    try:
        one.wish.simulation.step(longest=one.wish.longest)
    except BaseException as problem:
        one.go_on(problem)
    else:
        one.go_on()
