"""The cores that a rank may use, and how many of them are its own."""

from __future__ import annotations

import math
import os
import platform
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from solver.parallel import ranks

SYSTEM = Path("/sys")
Cores = frozenset[str]


def cores() -> Cores:
    """Those that this process may run on: each by the numbers of its hardware threads, of which one suffices."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    return frozenset(_core(cpu) for cpu in allowed)


def _core(cpu: int) -> str:
    file = SYSTEM / f"devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
    try:
        return file.read_text(encoding="ascii").strip() or str(cpu)
    except OSError:  # not a system that says so
        return str(cpu)


def quota() -> float:
    """Processor seconds a second that a container grants; infinite without a limit."""
    try:
        granted, period = (SYSTEM / "fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return math.inf if granted == "max" else int(granted) / int(period)
    except (OSError, ValueError):
        return math.inf


def share(own: Cores, on_node: Sequence[Cores], granted: float = math.inf) -> int:
    """How many cores are one's own, at least 1: those that several of the ranks on a node may use count in part.

    Parameters
    ----------
    own : what this rank may use.
    on_node : what each rank of the node may use, this one among them.
    granted : see `quota`; of all of them.

    Examples
    --------
    >>> node = frozenset("abcd")
    >>> share(node, [node, node]), share(frozenset("a"), [frozenset("a"), frozenset("bcd")])
    (2, 1)
    >>> share(node, [node], granted=2.0)
    2
    """
    users = Counter(core for cores in on_node for core in cores)
    return max(int(min(sum(1.0 / users[core] for core in own) + 1e-9, granted / len(on_node))), 1)


def fair_threads(comm: ranks.Intracomm | None = None) -> int:
    """Threads for this rank that leave the others on its node theirs (collective)."""
    own, here = cores(), platform.node()
    everybody = (comm or ranks.world()).allgather((here, own))
    return share(own, [cores for node, cores in everybody if node == here], quota())
