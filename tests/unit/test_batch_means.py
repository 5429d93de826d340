"""Time averages: their intervals cover, their sums are compensated, a restart does not show."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from solver.analysis.batch_means import BatchMeans

SEED = 60_917


def filled(series: np.ndarray, batches: int) -> BatchMeans:
    """An average of `series[sample, ...]` with samples of weight one."""
    means = BatchMeans(0.0, len(series) / batches)
    for i, values in enumerate(series):
        means.add(i + 0.5, 1.0, values)
    return means


def correlated(rng: np.random.Generator, samples: int, realisations: int, memory: float) -> np.ndarray:
    """AR(1) series of mean zero and variance one, by column."""
    noise = rng.standard_normal((samples, realisations))
    series = noise.copy()
    for i in range(1, samples):
        series[i] = memory * series[i - 1] + np.sqrt(1 - memory**2) * noise[i]
    return series


@pytest.mark.parametrize(("batches", "memory"), [(20, 0.0), (20, 0.8), (20, 0.96), (6, 0.5)])
def test_intervals_cover(batches, memory):
    """95 % intervals of 3000 realisations hold the true mean 93 to 97 times in a hundred."""
    series = correlated(np.random.default_rng(SEED + batches), 2000, 3000, memory)
    means = BatchMeans(0.0, 1.0)
    blocks = np.array_split(series, batches)
    means.sums = np.stack([block.sum(0) for block in blocks])
    means.weights = np.array([float(len(block)) for block in blocks])
    value, width = means.estimate(lambda mean: mean)
    covered = (np.abs(value) < width).mean()
    assert 0.93 < covered < 0.97


def test_intervals_of_a_ratio_cover():
    """The jackknife serves functions of several means: here mean square over square of the mean."""
    rng = np.random.default_rng(SEED)
    series = 1.0 + 0.5 * correlated(rng, 2000, 2000, 0.5)
    blocks = np.array_split(series, 20)
    means = BatchMeans(0.0, 1.0)
    means.sums = np.stack([np.stack([block.sum(0), (block**2).sum(0)]) for block in blocks])
    means.weights = np.array([float(len(block)) for block in blocks])
    value, width = means.estimate(lambda mean: mean[1] / mean[0] ** 2)
    assert 0.93 < (np.abs(value - 1.25) < width).mean() < 0.97


def test_linear_functions_have_the_textbook_width():
    """For equal batches and a linear function: standard error of batch means, widened by their lag-one correlation."""
    series = np.random.default_rng(SEED).standard_normal((400, 3))
    value, width = filled(series, 10).estimate(lambda mean: mean)
    batch_means = series.reshape(10, 40, 3).mean(1)
    apart = batch_means - batch_means.mean(0)
    correlation = (apart[1:] * apart[:-1]).sum(0) / (apart**2).sum(0) + 0.1
    assert (correlation > 0).any()
    assert (correlation < 0).any()
    widened = np.sqrt(1 + 2 * np.maximum(correlation, 0)) * 2.262157 * batch_means.std(0, ddof=1) / np.sqrt(10)
    np.testing.assert_allclose(value, series.mean(0), atol=1e-14)
    np.testing.assert_allclose(width, widened, rtol=1e-6)


def test_compensated_sums_beat_naive_ones():
    values = np.random.default_rng(SEED).random(20_000)
    values[0] = 1e9
    exact = float(sum(map(Fraction, map(float, values))))
    naive = 0.0
    for value in values:
        naive += value
    means = BatchMeans(0.0, 1e9)
    for i, value in enumerate(values):
        means.add(float(i), 1.0, np.array([value]))
    assert means.sums is not None
    assert abs(means.sums[0, 0] - exact) <= np.spacing(exact)
    assert abs(naive - exact) > 10 * np.spacing(exact)


@pytest.mark.parametrize("cut", [0, 1, 137, 399])
def test_restart_is_exact(cut):
    series = np.random.default_rng(SEED + cut).standard_normal((400, 2, 3))
    whole, first, second = filled(series, 7), BatchMeans(0.0, 400 / 7), BatchMeans(0.0, 400 / 7)
    for i, values in enumerate(series):
        if i == cut:
            second.restore({name: array.copy() for name, array in first.state().items()})
        (first if i < cut else second).add(i + 0.5, 1.0, values)
    for name, array in whole.state().items():
        np.testing.assert_array_equal(second.state()[name], array)


def test_a_restart_before_the_first_sample_follows_the_case():
    """A checkpoint from before the average keeps neither start nor width of its case."""
    means = BatchMeans(5.0, 2.0)
    means.restore(BatchMeans(1.0, 1.0).state())
    assert (means.start, means.width) == (5.0, 2.0)


def test_what_is_left_out():
    """Samples before the start or of no duration, empty batches; a short last batch joins the one before."""
    means = BatchMeans(1.0, 1.0)
    for t, weight in [(0.9, 1.0), (1.5, 0.0), (-3.0, 1.0)]:
        means.add(t, weight, np.ones(1))
    assert means.sums is None
    assert means.duration == 0
    for t in (1.2, 1.9, 2.5, 4.5, 5.5, 6.5, 7.1):
        means.add(t, 0.4 if t > 7 else 1.0, np.array([t]))
    assert len(means.weights) == 7
    sums, weights = means._merged()
    assert list(weights) == [2.0, 1.0, 1.0, 1.0, 1.4]
    assert sums[-1, 0] == pytest.approx(6.5 + 0.4 * 7.1)


def test_few_batches_give_no_width():
    value, width = filled(np.ones((30, 2)), 3).estimate(lambda mean: mean)
    assert (value == 1).all()
    assert np.isnan(width).all()
