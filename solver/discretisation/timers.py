"""Wall-clock time of the parts of a step.

A part's time excludes the parts nested in it. A closure and what observes the flow are *owners*: whatever they call,
transforms above all, is theirs. Compiling kernels happens once and belongs to no part.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from solver.discretisation import fusion

OBSERVERS = ("hooks", "statistics", "series", "output")  # the flow would be the same without them
OWNERS = ("closure", *OBSERVERS)


Shares = dict[str, float]


@dataclass(frozen=True)
class Mark:
    """A switch of part in the queue of a device: who pays for what came before it, seconds of compiling until then."""

    event: Any
    payers: Shares
    compiled: float


class Timers:
    """Seconds and calls per named part; on a GPU events in its queue mark every switch, and nothing waits for them.

    Attributes
    ----------
    paused : whether parts are not timed for a while: events that are recorded in a graph have no times.
    """

    def __init__(self, device: torch.device) -> None:
        self.paused = False
        self.calls: dict[str, int] = defaultdict(int)
        self._seconds: dict[str, float] = defaultdict(float)
        self._stack: list[Shares] = [{}]  # the parts that pay for what is nested there, and their shares
        self._owners: list[str | None] = [None]
        self._since = self._compiled = 0.0
        self._marks: deque[Mark] = deque()  # those whose time is not known yet, after one whose time is
        self._event: Any = None if device.type == "cpu" else torch.get_device_module(device).Event

    @property
    def seconds(self) -> dict[str, float]:
        """By part, so far; on a GPU all that is queued is waited for."""
        if self._marks:
            self._marks[-1].event.synchronize()
            self._settle()
        return self._seconds

    def __call__(self, name: str, needed: float = 0.0) -> Timers:
        """Time what runs inside ``with timers(name):`` as `name`, or as the owner it is nested in.

        `needed` is the share of it that the step needs anyway, so that no owner pays for it.
        """
        if self.paused:
            return self
        self._charge()
        owner = self._owners[-1]
        if owner is None or name in OWNERS or name.startswith(f"{owner} "):
            self._stack.append({name: 1.0})
        else:
            self._stack.append({owner: 1.0 - needed, name: needed})
        self._owners.append(name if name in OWNERS else owner)
        self.calls[name] += 1
        return self

    def __enter__(self) -> None:
        """The part began when it was named."""

    def __exit__(self, *problem: object) -> None:
        if self.paused:
            return
        self._charge()
        self._stack.pop()
        self._owners.pop()

    def _charge(self) -> None:
        """Let the present part pay for what has passed since the last switch."""
        compiled, payers = fusion.compiling.seconds, self._stack[-1]
        if self._event is not None:
            event = self._event(enable_timing=True)
            event.record()
            self._marks.append(Mark(event, payers, compiled))
            self._settle()
            return
        now = time.perf_counter()
        spent = now - self._since - (compiled - self._compiled)
        for part, share in payers.items():
            self._seconds[part] += share * spent
        self._since, self._compiled = now, compiled

    def _settle(self) -> None:
        """Charge what lies between marks that the device has passed."""
        while len(self._marks) > 1 and self._marks[1].event.query():
            before, now = self._marks.popleft(), self._marks[0]
            spent = 1e-3 * before.event.elapsed_time(now.event) - (now.compiled - before.compiled)
            for part, share in now.payers.items():
                self._seconds[part] += share * spent

    def reset(self) -> None:
        """Forget everything measured so far."""
        self._seconds.clear()
        self._marks.clear()
        self.calls.clear()


def step_seconds(seconds: Mapping[str, float]) -> float:
    """What the steps themselves took, of the seconds of all parts: without what only observes."""
    return sum(spent for part, spent in seconds.items() if part not in OBSERVERS)


def closure_fraction(seconds: Mapping[str, float]) -> float:
    """Share of the steps' time that is the closure's, with the transforms that only it needs; 0 without steps.

    nan where steps are graphs, whose parts have no times.
    """
    if "graph" in seconds:
        return math.nan
    whole = step_seconds(seconds)
    return sum(spent for part, spent in seconds.items() if part.startswith("closure")) / whole if whole else 0.0
