"""The ensemble Kalman update, against what Bayes' theorem gives where everything is linear and Gaussian."""

from __future__ import annotations

import numpy as np
import pytest

from closures.training.kalman import longest_step, misfits, update


def linear(members=40, p=6, m=9, seed=711):
    """An ensemble, a linear map, a target out of its range, tolerances."""
    rng = np.random.default_rng(seed)
    parameters = 1.0 + rng.standard_normal((members, p)) @ rng.standard_normal((p, p))
    return parameters, rng.standard_normal((m, p)), 3.0 * rng.standard_normal(m), rng.uniform(0.2, 2.0, m)


def posterior(parameters, a, target, tolerance):
    """Mean and covariance given the target, the prior being that of the ensemble."""
    mean, covariance = parameters.mean(0), np.cov(parameters.T)
    gain = covariance @ a.T @ np.linalg.inv(a @ covariance @ a.T + np.diag(tolerance**2))
    return mean + gain @ (target - a @ mean), covariance - gain @ a @ covariance


@pytest.mark.parametrize("steps", [(1.0,), (0.5, 0.5), (0.1, 0.2, 0.7)])
def test_in_a_unit_of_time_it_reaches_the_posterior(steps):
    parameters, a, target, tolerance = linear()
    mean, covariance = posterior(parameters, a, target, tolerance)
    for step in steps:
        parameters = update(parameters, parameters @ a.T, target, tolerance, step)
    assert np.allclose(parameters.mean(0), mean, rtol=1e-10, atol=1e-10)
    assert np.allclose(np.cov(parameters.T), covariance, rtol=1e-9, atol=1e-9)


def test_fewer_members_than_parameters_stay_in_their_span():
    parameters, a, target, tolerance = linear(members=4)
    found = update(parameters, parameters @ a.T, target, tolerance, 1.0)
    span = (parameters - parameters.mean(0)).T
    moved = (found - parameters.mean(0)).T
    inside, *_ = np.linalg.lstsq(span, moved, rcond=None)
    assert np.allclose(span @ inside, moved)
    before, after = (misfits(p @ a.T, target, tolerance).mean() for p in (parameters, found))
    assert after < 0.6 * before


def test_steps_are_short_while_the_misfit_is_large_and_end_in_time():
    parameters, a, target, tolerance = linear()
    left, taken = 1.0, []
    for _ in range(200):
        outputs = parameters @ a.T
        found = misfits(outputs, target, tolerance)
        step, mean = longest_step(found, len(target), left), found.mean()
        assert step >= min(left, len(target) / (2 * mean)) * (1 - 1e-12)
        parameters = update(parameters, outputs, target, tolerance, step)
        taken.append(step)
        left = 1.0 - sum(taken)
        if left <= 0:
            break
    assert sum(taken) == pytest.approx(1.0)
    assert len(taken) > 3
    assert taken[0] < 0.1 * taken[-2]
    mean, _ = posterior(*linear())
    assert np.allclose(parameters.mean(0), mean, rtol=1e-8, atol=1e-8)


def test_it_finds_the_minimum_of_a_nonlinear_misfit():
    """Two parameters from three noisy answers that are not linear in them."""
    rng = np.random.default_rng(52)

    def answer(p):
        return np.stack([np.exp(p[:, 0]), p[:, 0] * p[:, 1], np.sin(p[:, 1])], axis=1)

    truth = np.array([[0.4, 0.9]])
    tolerance = np.full(3, 0.02)
    parameters, time = rng.normal([0.0, 0.5], 0.5, (30, 2)), 0.0
    while time < 1.0:
        outputs = answer(parameters) + 0.002 * rng.standard_normal((30, 3))
        step = longest_step(misfits(outputs, answer(truth)[0], tolerance), 3, 1.0 - time)
        parameters, time = update(parameters, outputs, answer(truth)[0], tolerance, step), time + step
    assert abs(parameters.mean(0) - truth[0]).max() < 0.03
    assert 1e-3 < parameters.std(0).max() < 0.1
