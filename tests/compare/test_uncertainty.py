"""Intervals hold what they promise on series of known correlation, and words follow from them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t as student_t

from closures.compare.uncertainty import Estimate, Sample, estimate, judge, over_repeats, survivors
from tests.compare.ensembles import ar1

REALISATIONS = 4000
PROMISED = pytest.approx(0.95, abs=0.02)


def batches(rng: np.random.Generator, phi: float, count: int, length: int) -> np.ndarray:
    """Batch means of `REALISATIONS` independent AR(1) series, (batches, realisations)."""
    series = ar1(rng, phi, (REALISATIONS, count * length))
    return series.reshape(REALISATIONS, count, length).mean(-1).T


def sample(*runs: np.ndarray) -> Sample:
    return Sample.of([(run, np.ones(len(run))) for run in runs])


def covered(found: Estimate, truth: float = 0.0) -> float:
    return float((np.abs(found.value - truth) < found.half_width).mean())


@pytest.mark.parametrize(
    ("phi", "count", "length"),
    # integral time (1 + phi) / (1 - phi): the batches are 2 to 60 of them long
    [(0.0, 20, 20), (0.9, 20, 40), (0.9, 20, 80), (0.9, 40, 150), (0.6, 8, 30), (0.95, 20, 160)],
)
def test_coverage_of_a_mean(phi, count, length):
    rng = np.random.default_rng(6091)
    assert covered(estimate(lambda m: m, sample(batches(rng, phi, count, length)))) == PROMISED


def test_coverage_without_the_correction_would_fall_short():
    rng = np.random.default_rng(6091)
    b = batches(rng, 0.9, 20, 40)
    width = student_t.ppf(0.975, len(b) - 1) * b.std(0, ddof=1) / np.sqrt(len(b))
    assert (np.abs(b.mean(0)) < width).mean() < 0.93


@pytest.mark.parametrize("phi", [0.0, 0.8])
def test_coverage_of_a_difference_of_unequal_runs(phi):
    rng = np.random.default_rng(88123)
    a, b = sample(batches(rng, phi, 20, 60)), sample(3 * batches(rng, phi, 8, 60) + 1.0)
    assert covered(estimate(lambda x, y: y - x, a, b), truth=1.0) == PROMISED


def test_coverage_over_seeds_and_of_a_nonlinear_function():
    rng = np.random.default_rng(40423)
    runs = [3.0 + 0.5 * batches(rng, 0.8, 10, 60) for _ in range(3)]
    assert covered(estimate(lambda m: m**2, sample(*runs)), truth=9.0) == PROMISED


def test_coverage_over_repeats_alone():
    rng = np.random.default_rng(515)
    values = rng.standard_normal((3, REALISATIONS))
    assert covered(over_repeats(values)) == PROMISED
    assert np.isnan(over_repeats(values[:1]).half_width).all()
    assert (over_repeats(values[:1], exact=True).half_width == 0).all()


def test_variance_of_a_mean_of_independent_batches_is_the_textbook_one():
    rng = np.random.default_rng(77)
    x = rng.standard_normal((12, 1))
    while np.corrcoef(x[1:, 0], x[:-1, 0])[0, 1] > -0.2:
        x = rng.permutation(x)
    found = estimate(lambda m: m, sample(x))
    assert found.variance == pytest.approx(x.var(0, ddof=1) / 12)
    assert found.freedom == pytest.approx(11)


def test_first_keeps_whole_batches():
    s = Sample.of([(np.arange(5.0)[:, None], np.full(5, 2.0))])
    assert s.first(6.5).duration == 6.0
    assert s.first(100.0).duration == 10.0
    assert s.first(0.1).count == 1


def test_few_batches_are_not_judged():
    found = estimate(lambda m: m, sample(np.array([[1.0], [2.0], [3.0]])))
    assert np.isnan(found.half_width).all()
    assert judge([found], np.zeros(1)) == [("not judged",)]


def test_holm_on_the_example_that_can_be_done_by_hand():
    # 0.012 < 0.05 / 4, 0.016 < 0.05 / 3, 0.03 > 0.05 / 2: the third stops it, although 0.04 < 0.05
    assert survivors(np.array([0.04, 0.012, 0.03, 0.016])).tolist() == [False, True, False, True]
    assert survivors(np.array([np.nan, 0.04])).tolist() == [False, True]


def test_equals_are_rarely_called_different_however_many_quantities_and_candidates():
    """No word of a whole table is wrong but with a probability of 5 %, though all share a baseline."""
    rng = np.random.default_rng(9137)
    trials, quantities, candidates = 400, 9, 5
    wrong = 0
    for _ in range(trials):
        a, *others = (sample(rng.standard_normal((20, quantities))) for _ in range(candidates + 1))
        differences = [estimate(lambda x, y: x - y, b, a) for b in others]
        words = [word for row in judge(differences, np.zeros(quantities)) for word in row]
        wrong += any(word in ("better", "worse") for word in words)
    assert wrong / trials < 0.08  # 5 % promised; three standard deviations of 400 trials are 3.3 %


def test_words_need_more_than_the_floor():
    difference = Estimate(np.array([-0.03, -0.03, 0.03]), np.full(3, 1e-6), np.full(3, 30.0))
    assert judge([difference], np.array([0.0, 0.04, 0.02])) == [("better", "not distinguishable", "worse")]


def test_a_difference_has_to_hold_beside_all_of_the_table():
    """P = 0.02 holds alone and beside what is certain; beside a second unsure one it does not."""
    score = student_t.isf(0.01, 30.0)
    unsure, certain = (Estimate(np.array([s]), np.ones(1), np.array([30.0])) for s in (score, 50.0))
    floors = np.zeros(1)
    assert judge([unsure], floors) == [("worse",)]
    assert judge([unsure, certain], floors) == [("worse",), ("worse",)]
    words = judge([unsure, Estimate(np.array([0.1]), np.ones(1), np.array([30.0])), unsure], floors)
    assert set(words) == {("not distinguishable",)}
