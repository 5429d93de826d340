"""Where samples wait between the solver that makes them and the optimiser that draws them.

Three kinds, after Meyer et al. 2023 (ICML, arXiv 2306.16133; SC23, arXiv 2309.16743). ``fifo``: the oldest first, each
once. ``firo``: at random, each once, from more than `watermark` of them, so that a batch is not of neighbours in time.
``reservoir``: uniformly at random with replacement, from more than `watermark`; where it is full, an arrival takes
the place of a random sample that was drawn before, and without one it has to wait, since nothing that was made
is thrown away unseen. Once closed, all of them give what is left without replacement, unseen samples first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

Kind = Literal["fifo", "firo", "reservoir"]
EVICTION, DRAW = 1, 2  # beside seed and number, so that the two are drawn apart


@dataclass
class Kept:
    """A sample in a buffer.

    Parameters
    ----------
    number : of its arrival.
    values : of the sample.
    seen : how often it was drawn.
    """

    number: int
    values: Tensor
    seen: int = 0


class Buffer:
    """So many samples; who is drawn, and who makes room, is a function of the seed and of numbers alone.

    Parameters
    ----------
    kind : see the module.
    capacity : samples that it holds at most.
    watermark : it gives nothing before it holds more than so many, unless it is closed.
    seed : of all draws.
    """

    def __init__(self, kind: Kind, capacity: int, watermark: int = 0, seed: int = 0) -> None:
        self.kind, self.capacity, self.watermark, self.seed = kind, capacity, watermark, seed
        self.kept: list[Kept] = []
        self.received, self.closed = 0, False

    def __len__(self) -> int:
        return len(self.kept)

    @property
    def unseen(self) -> int:
        """Samples that nobody has drawn."""
        return sum(sample.seen == 0 for sample in self.kept)

    @property
    def has_room(self) -> bool:
        """Whether a sample may come; if not its maker has to wait."""
        if self.closed:
            return False
        return len(self.kept) < self.capacity or (self.kind == "reservoir" and self.unseen < self.capacity)

    def put(self, values: Tensor) -> None:
        """Take a sample; only if it `has_room`."""
        assert self.has_room
        new = Kept(self.received, values)
        if len(self.kept) < self.capacity:
            self.kept.append(new)
        else:
            seen = [place for place, sample in enumerate(self.kept) if sample.seen]
            self.kept[seen[int(self._random(EVICTION, self.received).integers(len(seen)))]] = new
        self.received += 1

    def ready(self, count: int) -> bool:
        """Whether `count` samples can be drawn."""
        if self.closed:
            return len(self.kept) >= count
        enough = 1 if self.kind == "reservoir" else count
        return len(self.kept) >= max(enough, self.watermark + 1 if self.kind != "fifo" else enough)

    def draw(self, count: int, number: int) -> list[Tensor]:
        """Samples of the draw `number`; only if it is `ready`."""
        assert self.ready(count)
        random = self._random(DRAW, number)
        if self.kind == "reservoir" and not self.closed:
            chosen = [self.kept[place] for place in random.integers(len(self.kept), size=count)]
            for sample in chosen:
                sample.seen += 1
            return [sample.values for sample in chosen]
        order = list(range(len(self.kept))) if self.kind == "fifo" else random.permutation(len(self.kept)).tolist()
        order.sort(key=lambda place: self.kept[place].seen > 0)  # a stable sort: at random within the two
        return self._taken(order[:count])

    def close(self) -> None:
        """No more samples come."""
        self.closed = True

    def _taken(self, places: Sequence[int]) -> list[Tensor]:
        found = [self.kept[place].values for place in places]
        gone = set(places)
        self.kept = [sample for place, sample in enumerate(self.kept) if place not in gone]
        return found

    def _random(self, what: int, number: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, what, number])
