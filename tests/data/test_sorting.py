"""Sorting visits every sample once, is greedy where it says so, and really shortens the path."""

from __future__ import annotations

import numpy as np
import pytest

from closures.linear_families import sorting
from closures.linear_families.darcy import Darcy
from closures.linear_families.generate import parameters_of
from closures.linear_families.sorting import SORTINGS, likeness_vectors, low_modes, path


def length(vectors, order):
    """Mean distance between consecutive samples."""
    return np.linalg.norm(np.diff(vectors[order], axis=0), axis=1).mean()


@pytest.fixture(scope="module")
def fields() -> list[np.ndarray]:
    family = Darcy((32, 32))
    return [family.likeness(parameters_of(family, 271_829, i)) for i in range(80)]


def brute_force(vectors: np.ndarray) -> list[int]:
    """Algorithm 1 of the paper, with an unbounded first distance."""
    order, left = [0], list(range(1, len(vectors)))
    while left:
        order.append(min(left, key=lambda j: np.linalg.norm(vectors[j] - vectors[order[-1]])))
        left.remove(order[-1])
    return order


@pytest.mark.parametrize("kind", SORTINGS)
@pytest.mark.parametrize("group", [1000, 16])
def test_every_sample_once_beginning_with_the_first(fields, kind, group, monkeypatch):
    monkeypatch.setattr(sorting, "GROUP", group)
    order = path(likeness_vectors(fields, kind), kind)
    assert sorted(order) == list(range(80))
    assert order[0] == 0


def test_greedy_is_the_published_algorithm(fields):
    vectors = likeness_vectors(fields, "greedy")
    assert path(vectors, "greedy").tolist() == brute_force(vectors)


def test_far_samples_are_not_repeated():
    """The published search stops at a fixed distance; samples further apart than any constant are still visited."""
    vectors = 1e9 * np.random.default_rng(6_700_417).standard_normal((20, 3))
    assert path(vectors, "greedy").tolist() == brute_force(vectors)


@pytest.mark.parametrize(
    ("kind", "group", "gain"), [("greedy", 1000, 0.85), ("fft", 1000, 0.85), ("grouped", 20, 0.95)]
)
def test_the_path_becomes_shorter(fields, kind, group, gain, monkeypatch):
    monkeypatch.setattr(sorting, "GROUP", group)
    whole = likeness_vectors(fields, "greedy")
    order = path(likeness_vectors(fields, kind), kind)
    assert length(whole, order) < gain * length(whole, np.arange(80))


def test_low_modes_keep_the_distance_of_smooth_fields(fields):
    a, b = fields[0], fields[1]
    assert low_modes(a).size == sorting.MODES**2
    short, full = np.linalg.norm(low_modes(a) - low_modes(b)), np.linalg.norm(a - b)
    assert 0.9 * full < short <= full
