"""The samples of running flows as batches of a training: what comes, what is drawn, what a checkpoint holds of it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from closures.operators.predictor import Predictor
from closures.training.online.buffer import Buffer, Kept
from closures.training.online.lane import Carried, Place, Sample
from closures.training.online.producers import Producers
from closures.training.online.table import OnlineTable
from closures.training.spectral_bound import plain_weights
from closures.training.state import Progress
from closures.training.tables import LoopTable
from solver.errors import CaseError


@dataclass(frozen=True)
class Plan:
    """When what is due, as functions of numbers alone.

    Parameters
    ----------
    table, batch, steps : of the recipe; steps of the optimiser in all.
    """

    table: OnlineTable
    batch: int
    steps: int

    @property
    def refresh(self) -> int:
        """Steps between two sets of weights that are sent out; 0: none is."""
        return self.table.on_policy.refresh if self.table.on_policy else 0

    def wanted(self, step: int) -> int:
        """Samples that have come before a step of the optimiser, where the ratio is fixed."""
        ratio = self.table.ratio if self.table.buffer.kind == "reservoir" else 1.0
        waits = self.table.buffer.watermark if self.table.buffer.kind != "fifo" else 0
        return waits + math.ceil(ratio * self.batch * (step + 1))

    def due(self, lane: int, count: int) -> int:
        """The step whose weights lead the flow to this sample: sent out before the one that calls for it, or that."""
        number, first, last = count * self.table.flows + lane, 0, self.steps
        while first < last:  # the least step that wants more than `number` samples
            middle = (first + last) // 2
            first, last = (first, middle) if self.wanted(middle) > number else (middle + 1, last)
        return max(first - self.refresh, 0) // self.refresh * self.refresh


class Seen:
    """Count, mean, deviation, least and greatest of numbers that pass by (Welford 1962, Technometrics 4, 419)."""

    def __init__(self, values: tuple[float, ...] = (0.0, 0.0, 0.0, math.inf, -math.inf)) -> None:
        self.count, self.mean, self.squares, self.least, self.greatest = values

    def add(self, value: float) -> None:
        """One more; what is no number is not counted."""
        if not math.isfinite(value):
            return
        self.count += 1
        off = value - self.mean
        self.mean += off / self.count
        self.squares += off * (value - self.mean)
        self.least, self.greatest = min(self.least, value), max(self.greatest, value)

    def described(self, name: str) -> dict[str, float]:
        """All of it, by name; nothing of nothing."""
        if not self.count:
            return {}
        spread = math.sqrt(self.squares / self.count)
        found = {"mean": self.mean, "deviation": spread, "least": self.least, "greatest": self.greatest}
        return {f"{name}_{key}": value for key, value in found.items()}


class Stream:
    """A `closures.training.feed.Feed` of samples that are made meanwhile.

    Each comes once, in the order of its lane, or is made again from where the lane was: a checkpoint holds the buffer,
    and of every lane the flow as it was after its last sample in there.

    Parameters
    ----------
    table, loop : of the recipe.
    predictor : whose weights are sent out.
    producers : who make the samples.
    fixed : the ratio of samples made to samples drawn is that of the recipe.

    Raises
    ------
    CaseError : of a batch, if a training goes on that had emptied its buffer, and a fixed ratio cannot fill it.
    """

    SEEN = ("energy", "friction", "nu")

    def __init__(
        self, table: OnlineTable, loop: LoopTable, predictor: Predictor, producers: Producers, fixed: bool
    ) -> None:
        self.table, self.producers, self.fixed = table, producers, fixed
        self.network, self.units = predictor.network, predictor.scaling
        self.length, self.batch = table.samples, loop.batch
        self.plan = Plan(table, loop.batch, loop.epochs * (table.samples // loop.batch))
        waiting = table.buffer
        self.buffer = Buffer(waiting.kind, waiting.capacity, waiting.watermark, loop.seed)
        self.lanes: list[Carried | None] = [None] * table.flows
        self.published: dict[int, dict[str, Tensor]] = {}
        self.seen = {name: Seen() for name in self.SEEN}
        self.age, self.running, self.step = 0, False, 0
        self.begun: tuple[float, int, int] | None = None

    def batches(self, progress: Progress) -> Iterator[Tensor]:
        """See `closures.training.feed.Feed`: (batch, steps + 1, 3, nx, ny, nz)."""
        for _ in range(progress.batch, self.length // self.batch):
            self.step = progress.step
            self._supply(progress.step)
            yield torch.stack(self.buffer.draw(self.batch, progress.step))

    def stop(self) -> None:
        """No more samples are wanted."""
        self.producers.stop()

    def _supply(self, step: int) -> None:
        """Take up samples until the batch of a step can be drawn."""
        left = (self.plan.steps - step) * self.batch
        self._close(left)
        if not self.running and not self.buffer.closed:
            self._begin()
        if self.plan.refresh and step % self.plan.refresh == 0:
            self._publish(step)
        while self._wants(step, left):
            self._take(self.producers.next(self.buffer.received % len(self.lanes) if self.fixed else None), step)
        self._close(left)
        if not self.buffer.ready(self.batch):
            raise CaseError(
                "[loop] epochs: this training had ended, with nothing left in its buffer, and a fixed "
                f"[online] ratio = {self.table.ratio:g} brings no more than {len(self.buffer)} samples for the next "
                "batch: begin another training with its weights, [loop] begin"
            )

    def _close(self, left: int) -> None:
        """Take no more where there is enough for all draws that are left."""
        if left <= len(self.buffer) and not self.buffer.closed:
            self.buffer.close()
            self.producers.stop()

    def _wants(self, step: int, left: int) -> bool:
        """Whether a sample is to be taken up now, and waited for where there is none."""
        if not self.buffer.has_room or self.buffer.unseen >= left:  # what comes shall be drawn at least once
            return False
        if self.fixed:
            return self.buffer.received < self.plan.wanted(step)
        return self.producers.has() or not (self.buffer.ready(self.batch) or left <= len(self.buffer))

    def _begin(self) -> None:
        self.running, self.begun = True, (time.monotonic(), self.buffer.received, self.step * self.batch)
        self.producers.begin(self.lanes, self.units)
        for step, weights in self.published.items():
            self.producers.publish(step, weights)

    def _publish(self, step: int) -> None:
        """Send out the weights; keep those that may still be asked for, by a training of more epochs too."""
        if step in self.published:
            return
        self.published[step] = {name: w.detach().cpu() for name, w in plain_weights(self.network).items()}
        if not self.buffer.closed:
            self.producers.publish(step, self.published[step])
        n, lanes = self.buffer.received, len(self.lanes)
        oldest = self.plan.due(n % lanes, n // lanes) if self.fixed else step
        self.published = {at: weights for at, weights in self.published.items() if at >= oldest}

    def _take(self, sample: Sample, step: int) -> None:
        before = self.lanes[sample.lane]
        count = before.place.count if before is not None else 0
        if sample.after.place.count != count + 1:  # a sample was lost, or came twice
            raise RuntimeError(f"lane {sample.lane}: sample {sample.after.place.count} came after {count}")
        self.buffer.put(torch.from_numpy(sample.frames))
        self.lanes[sample.lane] = sample.after
        if sample.version >= 0:
            self.age = step - sample.version
        for name in self.SEEN:
            self.seen[name].add(float(getattr(sample, name)))
        self.producers.taken(sample)

    def facts(self) -> dict[str, float]:
        """See `closures.training.feed.Feed`; rates are those of this process since it began."""
        since, made, drawn = self.begun or (time.monotonic(), self.buffer.received, 0)
        seconds = max(time.monotonic() - since, 1e-9)
        return {
            "made": self.buffer.received,
            "made_per_second": (self.buffer.received - made) / seconds,
            "drawn_per_second": ((self.step + 1) * self.batch - drawn) / seconds,
            "buffer": len(self.buffer),
            "unseen": self.buffer.unseen,
            "age": self.age,
            "lost": self._of_lanes("lost"),
            "refused": self._of_lanes("refused"),
        }

    def described(self) -> dict[str, float]:
        """What the buffer has seen, for the card."""
        counts = {"samples": self.buffer.received, "lost": self._of_lanes("lost"), "refused": self._of_lanes("refused")}
        found = {key: value for name, seen in self.seen.items() for key, value in seen.described(name).items()}
        return {name: float(value) for name, value in (counts | found).items()}

    def _of_lanes(self, name: str) -> int:
        return sum(getattr(carried.place, name) for carried in self.lanes if carried is not None)

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """See `closures.training.feed.Feed`."""
        tensors = {f"buffer/{place}": kept.values for place, kept in enumerate(self.buffer.kept)}
        for step, weights in self.published.items():
            tensors |= {f"weights/{step}/{name}": w for name, w in weights.items()}
        for lane, carried in enumerate(self.lanes):
            fields = carried.fields if carried is not None else {}
            tensors |= {f"lane/{lane}/{name}": torch.from_numpy(f) for name, f in fields.items()}
        values = {
            "kept": [(kept.number, kept.seen) for kept in self.buffer.kept],
            "received": self.buffer.received,
            "lanes": [asdict(carried.place) if carried is not None else None for carried in self.lanes],
            "seen": {name: list(vars(seen).values()) for name, seen in self.seen.items()},
            "age": self.age,
        }
        return values, tensors

    def restore(self, values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """See `closures.training.feed.Feed`."""
        self.buffer.received = values["received"]
        rows = enumerate(values["kept"])
        self.buffer.kept = [Kept(number, tensors[f"buffer/{place}"], seen) for place, (number, seen) in rows]
        fields: list[dict[str, Any]] = [{} for _ in self.lanes]
        for key, tensor in tensors.items():
            kind, _, rest = key.partition("/")
            number, _, name = rest.partition("/")
            if kind == "weights":
                self.published.setdefault(int(number), {})[name] = tensor
            elif kind == "lane":
                fields[int(number)][name] = tensor.numpy()
        places = zip(values["lanes"], fields, strict=True)
        self.lanes = [Carried(Place(**place), own) if place is not None else None for place, own in places]
        self.seen = {name: Seen(tuple(numbers)) for name, numbers in values["seen"].items()}
        self.age = values["age"]
