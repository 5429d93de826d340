"""Trainer and producers by letters, here between threads: order, how far flows run ahead, weights, and how it ends."""

from __future__ import annotations

import threading
import time
from collections import deque

import numpy as np
import pytest
import torch

from closures.operators.predictor import Scaling
from closures.training.online.lane import Carried, Place, Sample
from closures.training.online.producers import AHEAD, Maker, Remote, serve
from solver.errors import Diverged

UNITS = Scaling(target="increment", mean=(0.0,) * 3, std=(1.0,) * 3, change=(1.0,) * 3)


class Letters:
    """The mailbox of one thread; `boxes` has the letters from each rank to each."""

    def __init__(self, rank, boxes) -> None:
        self.rank, self.boxes = rank, boxes
        self.size = 1 + max(to for _, to in boxes)

    def send(self, rank, letter):
        self.boxes[self.rank, rank].append(letter)

    def _full(self, rank):
        return [a for (a, b), box in self.boxes.items() if b == self.rank and box and rank in (None, a)]

    def has(self, rank=None):
        return bool(self._full(rank))

    def receive(self, rank=None):
        while not self.has(rank):
            time.sleep(1e-3)
        found = self._full(rank)[0]
        return found, self.boxes[found, self.rank].popleft()


class Taught:
    """A student that notes its version."""

    version = -1

    def take(self, version, weights):
        self.version = version
        assert float(weights["w"]) == version


class CountingLane:
    """Its samples are numbers; it is lost after so many."""

    def __init__(self, lane, carried, lost_after) -> None:
        self.lane, self.lost_after = lane, lost_after
        self.carried = carried or Carried(Place(lane), {})

    def __call__(self, student=None):
        count = self.carried.place.count + 1
        if count > self.lost_after:
            raise Diverged(f"lane {self.lane}")
        self.carried = Carried(Place(self.lane, count=count), {})
        version = student.version if student else -1
        return Sample(self.lane, np.zeros(1, np.float32), self.carried, version, 1, 0.0, 0.0, 0.0)


def started(producers, due=None, taught=True, lost_after=1000):
    """The trainer's end, and the threads of the producers."""
    ranks = range(1 + producers)
    boxes = {(a, b): deque() for a in ranks for b in ranks if 0 in (a, b) and a != b}
    threads = []
    for rank in range(1, 1 + producers):
        maker = Maker(
            lambda lane, carried: CountingLane(lane, carried, lost_after), (lambda _: Taught()) if taught else None, due
        )
        threads.append(threading.Thread(target=serve, args=(Letters(rank, boxes), maker), daemon=True))
        threads[-1].start()
    return Remote(Letters(0, boxes)), threads, boxes


def weights(step):
    return {"w": torch.tensor(float(step))}


def settle(boxes, count):
    """Wait for so many letters at the trainer; there come no more."""

    def there():
        return sum(len(box) for (_, to), box in boxes.items() if to == 0)

    while there() < count:
        time.sleep(1e-3)
    time.sleep(0.05)  # a slow machine may hide one too many, it never makes one
    assert there() == count


@pytest.mark.parametrize("producers", [1, 2, 3])
def test_lanes_keep_their_order_and_go_on_where_they_were(producers):
    remote, threads, _ = started(producers, taught=False)
    remote.begin(
        [Carried(Place(0, count=3), {}), Carried(Place(1, count=3), {}), Carried(Place(2, count=2), {})], UNITS
    )
    got = [[], [], []]
    for number in range(8, 29):
        sample = remote.next(number % 3)
        got[sample.lane].append(sample.after.place.count)
        remote.taken(sample)
    assert got == [list(range(4, 11)), list(range(4, 11)), list(range(3, 10))]
    remote.stop()
    for thread in threads:
        thread.join(timeout=20)
        assert not thread.is_alive()


def test_flows_wait_for_a_trainer_that_takes_nothing():
    """Each rank is ahead by so many a lane, not more; each that is taken calls for one more."""
    remote, threads, boxes = started(2, taught=False)
    remote.begin([None] * 3, UNITS)
    settle(boxes, 3 * AHEAD)
    assert remote.has()
    for _ in range(2):
        remote.taken(remote.next(None))
    settle(boxes, 2)
    remote.stop()
    for thread in threads:
        thread.join(timeout=20)


@pytest.mark.parametrize("producers", [1, 2])
def test_the_weights_of_a_sample_are_those_of_its_number(producers):
    """Whatever else has been sent out by then; and without that rule the newest are used."""
    due = lambda lane, count: 2 * (count // 2)  # noqa: E731
    remote, threads, boxes = started(producers, due)
    remote.begin([None, None], UNITS)
    settle(boxes, 0)  # no weights, no flow
    for step in (0, 2):
        remote.publish(step, weights(step))
    settle(boxes, 2 * AHEAD)
    versions = []
    for number in range(8):
        sample = remote.next(number % 2)
        versions.append(sample.version)
        remote.taken(sample)
    assert versions == [0, 0, 0, 0, 2, 2, 2, 2]
    settle(boxes, 0)  # the next one needs weights that are not there yet
    remote.stop()
    for thread in threads:
        thread.join(timeout=20)

    remote, threads, _ = started(producers)
    remote.publish(0, weights(0))
    remote.publish(6, weights(6))
    remote.begin([None, None], UNITS)
    assert remote.next(0).version == 6
    remote.stop()
    for thread in threads:
        thread.join(timeout=20)


def test_a_producer_that_gives_up_ends_the_training_in_words():
    remote, threads, _ = started(2, taught=False, lost_after=1)
    remote.begin([None, None], UNITS)
    for lane in (0, 1):
        remote.taken(remote.next(lane))
    with pytest.raises(Diverged, match="lane 1"):
        remote.next(1)
    remote.stop()
    for thread in threads:
        thread.join(timeout=20)
        assert not thread.is_alive()
