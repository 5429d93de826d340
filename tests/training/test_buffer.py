"""Buffers as published: what is drawn, what makes room, who waits, and that nothing is lost unseen."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from closures.training.online.buffer import Buffer, Kept

KINDS = st.sampled_from(["fifo", "firo", "reservoir"])
SIZES = st.tuples(st.integers(1, 9), st.integers(0, 8)).map(lambda pair: (pair[0] + pair[1], pair[1]))


def sample(number: int) -> torch.Tensor:
    return torch.tensor(float(number))


def numbers(found: list[torch.Tensor]) -> list[int]:
    return [int(values) for values in found]


def played(buffer: Buffer, moves: list[bool], batch: int) -> list[list[int]]:
    """Puts and draws as `moves` say, where they may be; then closed and drained. What was drawn, draw by draw."""
    drawn: list[list[int]] = []

    def draw(count: int) -> None:
        drawn.append(numbers(buffer.draw(count, len(drawn))))

    for arrives in moves:
        if arrives and buffer.has_room:
            buffer.put(sample(buffer.received))
        elif not arrives and buffer.ready(batch):
            draw(batch)
        assert len(buffer) <= buffer.capacity
        assert buffer.unseen <= len(buffer)
    buffer.close()
    assert not buffer.has_room
    while len(buffer):
        draw(min(batch, len(buffer)))
    return drawn


@given(KINDS, SIZES, st.lists(st.booleans(), max_size=80), st.integers(1, 3), st.integers(0, 99))
def test_whatever_comes_is_drawn(kind, sizes, moves, batch, seed):
    """Nothing is thrown away unseen; a queue gives each sample once, and the drain of a reservoir no sample twice."""
    buffer = Buffer(kind, *sizes, seed=seed)
    drawn = played(buffer, moves, batch)
    everything = Counter(number for draw in drawn for number in draw)
    assert set(everything) == set(range(buffer.received))
    if kind != "reservoir":
        assert set(everything.values()) <= {1}
    if kind == "fifo":
        assert [n for draw in drawn for n in draw] == list(range(buffer.received))


@given(SIZES, st.lists(st.booleans(), max_size=80), st.integers(0, 99))
def test_only_what_was_seen_makes_room(sizes, moves, seed):
    buffer = Buffer("reservoir", *sizes, seed=seed)
    for arrives in moves:
        if arrives:
            full = len(buffer) == buffer.capacity
            assert buffer.has_room == (not full or buffer.unseen < buffer.capacity)
            if buffer.has_room:
                before = {kept.number: kept.seen for kept in buffer.kept}
                buffer.put(sample(buffer.received))
                gone = before.keys() - {kept.number for kept in buffer.kept}
                assert len(gone) == int(full)
                assert all(before[number] > 0 for number in gone)
        elif buffer.ready(1):
            buffer.draw(1, buffer.received)


@given(KINDS, SIZES)
def test_nothing_is_drawn_before_the_watermark(kind, sizes):
    buffer = Buffer(kind, *sizes)
    assert not buffer.ready(1)
    least = 1 if kind == "fifo" else buffer.watermark + 1
    for count in range(1, buffer.capacity + 1):
        buffer.put(sample(count))
        assert buffer.ready(1) == (count >= least)
    assert not buffer.has_room  # all of it unseen: who makes samples waits


@given(KINDS, SIZES, st.lists(st.booleans(), min_size=1, max_size=60), st.integers(0, 99), st.data())
def test_goes_on_from_what_it_holds(kind, sizes, moves, seed, data):
    """Draws and evictions are functions of numbers: samples, how often each was seen, and a count are its state."""
    cut = data.draw(st.integers(0, len(moves)))
    whole, legs = Buffer(kind, *sizes, seed=seed), Buffer(kind, *sizes, seed=seed)
    draws: dict[int, list[int]] = {0: [], 1: []}
    for at, arrives in enumerate(moves):
        if at == cut:
            again = Buffer(kind, *sizes, seed=seed)
            again.kept = [Kept(kept.number, kept.values, kept.seen) for kept in legs.kept]
            again.received, legs = legs.received, again
        for which, buffer in enumerate((whole, legs)):
            if arrives and buffer.has_room:
                buffer.put(sample(buffer.received))
            elif not arrives and buffer.ready(1):
                draws[which] += numbers(buffer.draw(1, at))
    assert draws[0] == draws[1]


def test_a_reservoir_is_drawn_from_evenly_and_with_replacement():
    """Pearson's statistic of 4000 draws from 8 samples has 7 degrees of freedom: above 30 once in 10,000 times."""
    buffer = Buffer("reservoir", 8, 3, seed=50231)
    for number in range(8):
        buffer.put(sample(number))
    drawn = [n for number in range(1000) for n in numbers(buffer.draw(4, number))]
    counts = np.bincount(drawn, minlength=8)
    assert ((counts - 500.0) ** 2 / 500.0).sum() < 30.0
    assert any(len(set(drawn[i : i + 4])) < 4 for i in range(0, 4000, 4))
    assert len(buffer) == 8


def test_evictions_are_even_too():
    """Of eight that were seen each makes room as often as any other."""
    gone = np.zeros(8)
    for seed in range(1600):
        buffer = Buffer("reservoir", 8, seed=seed)
        for number in range(8):
            buffer.put(sample(number))
        for kept in buffer.kept:
            kept.seen = 1
        buffer.put(sample(8))
        gone[next(iter(set(range(8)) - {kept.number for kept in buffer.kept}))] += 1
    assert ((gone - 200.0) ** 2 / 200.0).sum() < 30.0


def test_at_random_once_is_at_random():
    """A queue without order gives neighbours in time apart: not the order in which they came."""
    buffer = Buffer("firo", 40, 0, seed=70411)
    for number in range(40):
        buffer.put(sample(number))
    order = numbers(buffer.draw(40, 0))
    assert sorted(order) == list(range(40))
    assert order != list(range(40))
    assert np.mean(np.abs(np.diff(order)) == 1) < 0.3
