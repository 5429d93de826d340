"""The stream between flows and optimiser, with numbers for flows: order, ratio, drain, and what a state holds."""

from __future__ import annotations

from collections import Counter, deque

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from closures.operators.predictor import Predictor, Scaling
from closures.training.online.lane import Carried, Place, Sample
from closures.training.online.stream import Plan, Seen, Stream
from closures.training.online.table import OnlineTable
from closures.training.state import Progress
from closures.training.tables import LoopTable
from solver.errors import CaseError

UNITS = Scaling(target="increment", mean=(0.0,) * 3, std=(1.0,) * 3, change=(1.0,) * 3)


def table(kind="reservoir", policy=True, **changes) -> OnlineTable:
    keys = {"case": "c", "interval": 0.1, "flows": 3, "samples": 12, "deterministic": True}
    keys["buffer"] = {"kind": kind, "capacity": 7} | ({"watermark": 2} if kind != "fifo" else {"capacity": 20})
    keys |= {"on_policy": {"refresh": 2}} if policy else {}
    return OnlineTable.model_validate(keys | changes)


class Counting:
    """Sample n of lane l is the number n * lanes + l; made on demand, some ahead where the clock would have it so."""

    def __init__(self, plan: Plan, ahead=()) -> None:
        self.plan, self.ahead = plan, deque(ahead)
        self.places: list[int] = []
        self.versions: set[int] = set()
        self.waiting: deque[Sample] = deque()
        self.out = self.most = 0
        self.stopped = False

    def begin(self, carried, units):
        assert units is UNITS
        self.places = [0 if place is None else place.place.count for place in carried]

    def publish(self, step, weights):
        self.versions.add(step)

    def made(self, lane) -> Sample:
        count, self.places[lane] = self.places[lane], self.places[lane] + 1
        number = count * len(self.places) + lane
        version = -1
        if self.plan.refresh:
            version = self.plan.due(lane, count) if self.plan.table.deterministic else max(self.versions)
            assert version in self.versions  # or a flow would wait for ever
        frames = np.full((2, 1), number, np.float32)
        place = Place(lane, count=count + 1)
        return Sample(lane, frames, Carried(place, {"u": np.full(2, number)}), version, 1, 1.0 + number, np.nan, 0.1)

    def next(self, lane):
        if lane is None:
            return self.waiting.popleft() if self.waiting else self.made(int(np.argmin(self.places)))
        return self.made(lane)

    def has(self):
        for _ in range(self.ahead.popleft() if self.ahead else 0):
            self.waiting.append(self.made(int(np.argmin(self.places))))
        return bool(self.waiting)

    def taken(self, sample):
        pass

    def stop(self):
        self.stopped = True


def stream_of(online, loop, ahead=()) -> Stream:
    plan = Plan(online, loop.batch, loop.epochs * (online.samples // loop.batch))
    predictor = Predictor(torch.nn.Linear(1, 1), UNITS)
    return Stream(online, loop, predictor, Counting(plan, ahead), online.deterministic)


def drawn(stream, progress, steps) -> list[list[int]]:
    """The numbers of the batches of so many steps, as the training loop asks for them."""
    found: list[list[int]] = []
    while len(found) < steps:
        for batch in stream.batches(progress):
            found.append(batch[:, 0, 0].int().tolist())
            progress.step, progress.batch = progress.step + 1, progress.batch + 1
            if len(found) == steps:
                break
        if progress.batch == stream.length // stream.batch:
            progress.epoch, progress.batch = progress.epoch + 1, 0
    return found


LOOP = LoopTable(epochs=3, batch=2, seed=31)
STEPS = 18
VARIANTS = st.sampled_from([("reservoir", 1.0), ("reservoir", 0.4), ("reservoir", 2.5), ("firo", 1.0), ("fifo", 1.0)])


@given(VARIANTS, st.booleans(), st.lists(st.integers(0, 9), max_size=30))
def test_all_that_was_taken_is_drawn_and_the_rest_is_not_taken(variant, deterministic, ahead):
    """At the end the buffer is empty or holds what was seen, whatever the clock has done before."""
    kind, ratio = variant
    online = table(kind, deterministic=deterministic, **({"ratio": ratio} if kind == "reservoir" else {}))
    stream = stream_of(online, LOOP, ahead)
    found = Counter(n for batch in drawn(stream, Progress(""), STEPS) for n in batch)
    assert sum(found.values()) == STEPS * LOOP.batch
    assert len(found) == stream.buffer.received
    assert stream.buffer.unseen == 0
    assert stream.producers.stopped
    if deterministic or kind != "reservoir":
        assert set(found) == set(range(len(found)))
    if kind != "reservoir":
        assert set(found.values()) == {1}


@given(VARIANTS, st.integers(1, STEPS - 1))
def test_a_state_goes_on_with_the_same_batches(variant, cut):
    """And with the next sample of each lane: none is lost, none comes twice; those made ahead are made again."""
    kind, ratio = variant
    online = table(kind, **({"ratio": ratio} if kind == "reservoir" else {}))
    whole = drawn(stream_of(online, LOOP), Progress(""), STEPS)
    first, progress = stream_of(online, LOOP), Progress("")
    head = drawn(first, progress, cut)
    values, tensors = first.state()
    second = stream_of(online, LOOP)
    second.restore(values, {name: t.clone() for name, t in tensors.items()})
    assert head + drawn(second, progress, STEPS - cut) == whole
    assert second.buffer.received == len({n for batch in whole for n in batch})
    assert second.described()["samples"] == second.buffer.received
    assert second.described()["energy_mean"] == pytest.approx(0.5 + 0.5 * second.buffer.received)


@pytest.mark.parametrize("kind", ["reservoir", "fifo"])
def test_a_training_that_has_ended_goes_on_with_more_epochs(kind):
    """With the samples that follow, led by weights that were sent to nobody while the buffer was emptied."""
    online, longer = table(kind), LOOP.model_copy(update={"epochs": 5})
    first, progress = stream_of(online, LOOP), Progress("")
    before = {n for batch in drawn(first, progress, STEPS) for n in batch}
    values, tensors = first.state()
    second = stream_of(online, longer)
    second.restore(values, tensors)
    after = {n for batch in drawn(second, progress, 12) for n in batch}
    assert before | after == set(range(second.buffer.received))
    assert len(after - before) >= 12


def test_a_ratio_that_cannot_fill_an_emptied_buffer_is_said():
    buffer = {"kind": "reservoir", "capacity": 7, "watermark": 5}
    online, longer = table(ratio=0.1, buffer=buffer), LOOP.model_copy(update={"epochs": 5})
    first, progress = stream_of(online, LOOP), Progress("")
    drawn(first, progress, STEPS)
    second = stream_of(online, longer)
    second.restore(*first.state())
    with pytest.raises(CaseError, match=r"\[online\] ratio = 0.1 brings no more than"):
        drawn(second, progress, 12)


def test_the_ratio_is_kept():
    """Seven samples of each ten drawn, after those below the watermark, until there is enough for the rest."""
    online = table(samples=200, ratio=0.7, buffer={"capacity": 30, "watermark": 5})
    stream, progress = stream_of(online, LoopTable(epochs=1, batch=2)), Progress("")
    for step in range(1, 80):
        drawn(stream, progress, 1)
        assert stream.buffer.received == 5 + int(np.ceil(1.4 * step - 1e-12))


def test_who_is_faster_waits():
    """A buffer full of what nobody has seen takes nothing, though more is there."""
    online = table(deterministic=False, buffer={"capacity": 7, "watermark": 2})
    stream, progress = stream_of(online, LOOP, ahead=[40]), Progress("")
    drawn(stream, progress, 1)
    assert stream.buffer.received == 7
    assert len(stream.producers.waiting) == 33


def test_a_sample_that_is_missing_is_no_sample():
    stream = stream_of(table(), LOOP)
    drawn(stream, Progress(""), 1)
    stream.producers.places[1] += 1
    with pytest.raises(RuntimeError, match="lane 1: sample 3 came after 1"):
        drawn(stream, Progress("", step=2, batch=2), 3)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40))
def test_running_statistics(values):
    seen = Seen()
    for value in [*values, float("nan")]:
        seen.add(value)
    found = seen.described("x")
    expected = np.mean(values), np.std(values), np.min(values), np.max(values)
    assert tuple(found.values()) == pytest.approx(expected, rel=1e-9, abs=1e-9)
