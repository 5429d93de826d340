"""Wall-clock time of the parts of a step; a part's time excludes the parts nested in it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Timers:
    """Seconds and calls per named part; on a GPU every switch of part waits for the device."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self._stack: list[str] = []
        self._since = 0.0
        self._synchronize = torch.cuda.synchronize if device.type == "cuda" else None

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time what runs inside as `name`."""
        self._charge()
        self._stack.append(name)
        self.calls[name] += 1
        try:
            yield
        finally:
            self._charge()
            self._stack.pop()

    def _charge(self) -> None:
        if self._synchronize:
            self._synchronize()
        now = time.perf_counter()
        if self._stack:
            self.seconds[self._stack[-1]] += now - self._since
        self._since = now

    def reset(self) -> None:
        """Forget everything measured so far."""
        self.seconds.clear()
        self.calls.clear()
