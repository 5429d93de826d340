"""A task farm over MPI: tasks are handed out as ranks become free, and the root works too.

Beside `slabs`, `ranks` and `mailbox` the only place where mpi4py appears: its process pool serves the ranks (or groups
of ranks, for tasks that need several), while this module lets the root take tasks of its own instead of waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, cast

from mpi4py import MPI
from mpi4py.futures import MPICommExecutor

from solver.errors import CaseError

Work = Callable[[Any, MPI.Comm], Any]
AHEAD = 2  # tasks that wait at a group, so that it need not wait for the root
_current: tuple[Work, MPI.Comm] | None = None  # what this rank does, and with whom


def farm(tasks: Iterable[Any], work: Work, done: Callable[[Any], None], ranks_per_task: int = 1) -> None:
    """Do all `tasks`, on all ranks; collective.

    Parameters
    ----------
    tasks : small picklable values, read on the root alone; the order in which they end is not determined.
    work : ``work(task, group)``, called on every rank of a group; the result of the group's first rank counts.
    done : called on the root with each result, as it comes.
    ranks_per_task : size of a group.

    Raises
    ------
    CaseError : the ranks cannot be divided into groups of that size.
    Exception : whatever `work` raises, on the root; tasks not begun are dropped. Other ranks return.
    """
    global _current
    world = MPI.COMM_WORLD
    if world.size % ranks_per_task:
        raise CaseError(f"{world.size} ranks cannot be divided into groups of {ranks_per_task}: change mpirun -n")
    group = world.Split(world.rank // ranks_per_task, world.rank)
    leaders = world.Split(int(group.rank > 0), world.rank)
    _current = work, group
    try:
        if group.rank > 0:
            _follow(group)
        elif world.size == ranks_per_task:
            for task in tasks:
                done(_lead(task))
        else:
            with cast(Any, MPICommExecutor(cast(MPI.Intracomm, leaders), root=0)) as pool:
                if pool is not None:
                    _share(iter(tasks), pool.submit, leaders.size - 1, done)
    finally:
        if group.rank == 0 and group.size > 1:
            group.bcast((False, None))
        _current = None
        leaders.Free()
        group.Free()


def _share(tasks: Iterator[Any], submit: Callable[..., Future[Any]], others: int, done: Callable[[Any], None]) -> None:
    """Keep a few tasks waiting at the other groups and do the rest here; at the end, take back those not begun."""
    out: dict[Future[Any], Any] = {}
    try:
        for task in tasks:
            if len(out) < AHEAD * others:
                out[submit(_lead, task)] = task
            else:
                done(_lead(task))
            _collect(out, done, timeout=0.0)
        while out:
            surplus = list(reversed(out)) if len(out) > others else []
            waiting = next((future for future in surplus if future.cancel()), None)
            if waiting is not None:
                done(_lead(out.pop(waiting)))
            _collect(out, done, timeout=0.0 if waiting is not None else None)
    except BaseException:
        for future in out:
            future.cancel()
        raise


def _collect(out: dict[Future[Any], Any], done: Callable[[Any], None], timeout: float | None) -> None:
    """Take the results that have come, waiting `timeout` seconds for the first, or without end."""
    if out:
        for future in wait(out, timeout, FIRST_COMPLETED).done:
            del out[future]
            done(future.result())


def _lead(task: Any) -> Any:
    """Do one task with this rank's group."""
    assert _current is not None
    work, group = _current
    if group.size > 1:
        group.bcast((True, task))
    return work(task, group)


def _follow(group: MPI.Comm) -> None:
    """Take part in the tasks of this group's first rank until it says that there are no more."""
    assert _current is not None
    while True:
        more, task = group.bcast(None)
        if not more:
            return
        _current[0](task, group)
