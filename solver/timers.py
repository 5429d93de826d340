"""Wall-clock time of the parts of a step.

A part's time excludes the parts nested in it. A closure and what observes the flow are *owners*: whatever they call,
transforms above all, is theirs. Compiling kernels happens once and belongs to no part.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch

from solver import fusion

OBSERVERS = ("hooks", "statistics", "series", "output")  # the flow would be the same without them
OWNERS = ("closure", *OBSERVERS)


class Timers:
    """Seconds and calls per named part; on a GPU every switch of part waits for the device."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self._stack: list[dict[str, float]] = []  # the parts that pay for what is nested there, and their shares
        self._owners: list[str] = []
        self._since = self._compiled = 0.0
        self._synchronize = partial(torch.cuda.synchronize, device) if device.type == "cuda" else None

    @contextmanager
    def __call__(self, name: str, needed: float = 0.0) -> Iterator[None]:
        """Time what runs inside as `name`, or as the owner it is nested in.

        `needed` is the share of it that the step needs anyway, so that no owner pays for it.
        """
        self._charge()
        owner = self._owners[-1] if self._owners else None
        if owner is None or name in OWNERS or name.startswith(f"{owner} "):
            payers = {name: 1.0}
        else:
            payers = {owner: 1.0 - needed, name: needed}
        self._stack.append(payers)
        self._owners += [name] if name in OWNERS else []
        self.calls[name] += 1
        try:
            yield
        finally:
            self._charge()
            self._stack.pop()
            if name in OWNERS:
                self._owners.pop()

    def _charge(self) -> None:
        if self._synchronize:
            self._synchronize()
        now, compiled = time.perf_counter(), fusion.compile_seconds()
        if self._stack:
            spent = now - self._since - (compiled - self._compiled)
            for part, share in self._stack[-1].items():
                self.seconds[part] += share * spent
        self._since, self._compiled = now, compiled

    def reset(self) -> None:
        """Forget everything measured so far."""
        self.seconds.clear()
        self.calls.clear()


def step_seconds(seconds: Mapping[str, float]) -> float:
    """What the steps themselves took, of the seconds of all parts: without what only observes."""
    return sum(spent for part, spent in seconds.items() if part not in OBSERVERS)


def closure_fraction(seconds: Mapping[str, float]) -> float:
    """Share of the steps' time that is the closure's, with the transforms that only it needs; 0 without steps."""
    whole = step_seconds(seconds)
    return sum(spent for part, spent in seconds.items() if part.startswith("closure")) / whole if whole else 0.0
