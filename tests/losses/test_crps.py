"""The continuous ranked probability score: its closed form, what it is least for, and what planes and waves tell."""

from __future__ import annotations

import math

import pytest
import torch

from closures.coupling.resample import network_grid
from closures.losses.crps import kernel_crps, plane_crps, wave_crps
from closures.losses.relative_l2 import fluctuation
from closures.operators import Domain
from tests.coupling.flows import channel

MANY = 400_000
SEED = 618_033


def drawn(*shape, seed=SEED):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def of_gaussian(sigma, away):
    """Gneiting & Raftery 2007, equation 21, of N(0, sigma^2) at a distance from its mean."""
    z = torch.as_tensor(away / sigma, dtype=torch.float64)
    normal = torch.distributions.Normal(0.0, 1.0)
    return float(sigma * (z * (2 * normal.cdf(z) - 1) + 2 * normal.log_prob(z).exp() - 1 / math.sqrt(math.pi)))


@pytest.mark.parametrize("m", [2, 3, 8])
@pytest.mark.parametrize(("sigma", "away"), [(1.0, 0.0), (0.5, 1.0), (2.0, -1.5)])
def test_few_members_score_as_their_distribution_does(m, sigma, away):
    """In the mean over ensembles, within four standard errors: no bias, however few."""
    scores = kernel_crps(sigma * drawn(m, MANY), torch.full((MANY,), away, dtype=torch.float64))
    error = 4.0 * float(scores.std()) / MANY**0.5
    assert float(scores.mean()) == pytest.approx(of_gaussian(sigma, away), abs=error)
    assert error < 0.02 * sigma


def test_it_is_least_for_the_spread_of_what_comes():
    """And for the mean of it: derivatives of the expectation vanish there, and only there."""
    members, target = drawn(2, MANY), drawn(MANY, seed=SEED + 1)
    scores = {s: float(kernel_crps(s * members, target).mean()) for s in (0.8, 0.9, 1.0, 1.1, 1.2)}
    assert min(scores, key=scores.get) == 1.0
    assert scores[1.0] == pytest.approx(1.0 / math.sqrt(math.pi), abs=5e-3)
    spread, shift = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (1.0, 0.0))
    kernel_crps(spread * members + shift, target).mean().backward()
    assert abs(float(spread.grad)) < 5e-3 > abs(float(shift.grad))
    spread.grad = None
    kernel_crps((spread - 0.5) * members, target).mean().backward()
    assert float(spread.grad) < -0.1


@pytest.mark.parametrize("m", [2, 5])
@pytest.mark.parametrize("alpha", [1.0, 0.95])
def test_distances_are_those_of_all_pairs(m, alpha):
    x, y = drawn(m, 50), drawn(50, seed=SEED + 2)
    epsilon = (1.0 - alpha) / m
    pairs = (x[:, None] - x[None]).abs().sum(dim=(0, 1))
    expected = (x - y).abs().mean(0) - (1.0 - epsilon) / (2.0 * m * (m - 1)) * pairs
    torch.testing.assert_close(kernel_crps(x, y, alpha), expected, rtol=0, atol=1e-14)


def test_members_that_are_alike_score_their_error():
    x, y = drawn(50), drawn(50, seed=SEED + 2)
    torch.testing.assert_close(kernel_crps(x.expand(7, 50), y), (x - y).abs(), rtol=0, atol=1e-14)


@pytest.fixture(scope="module")
def domain():
    return Domain.of(network_grid(channel(12, 9, 10)))


def test_planes_count_the_same_whatever_their_fluctuation(domain):
    """An error and a spread in proportion to the fluctuation of each plane and component score the same in all."""
    sizes = torch.linspace(0.3, 3.0, 27, dtype=torch.float64).reshape(3, 1, 9, 1)
    target = fluctuation(drawn(1, 3, *domain.shape), domain)
    target = target / (target**2).mean(dim=(2, 4), keepdim=True).sqrt()
    members = target + 0.2 * drawn(4, 1, 3, *domain.shape)
    expected = kernel_crps(members, target).mean()
    found = plane_crps(members * sizes, target * sizes, domain)
    assert found.shape == (1,)
    assert float(found) == pytest.approx(float(expected), rel=1e-4)  # a millionth of the largest counts as rest


def test_waves_tell_how_a_spread_is_shared_among_wavenumbers(domain):
    """Of two spreads that are alike at every point, of long waves and of all, that which the errors have is better."""
    count = 60

    def errors(seed, m, cut):
        modes = torch.fft.rfft2(drawn(m, count, 3, *domain.shape, seed=seed), dim=(3, 5))
        modes[..., cut:, :, :] = torch.where(
            torch.arange(cut, domain.x.n)[:, None, None] > domain.x.n - cut, modes[..., cut:, :, :], 0.0
        )
        field = torch.fft.irfft2(modes, s=(domain.x.n, domain.z.n), dim=(3, 5))
        return field / field.std()

    target = 3.0 * errors(SEED, 1, 6)[0]
    came = target + errors(SEED + 1, 1, 3)[0]
    right, wrong = (target + errors(SEED + 2, 4, cut) for cut in (3, 6))
    by_plane, by_wave = (
        [float(score(m, came, domain).mean()) for m in (right, wrong)] for score in (plane_crps, wave_crps)
    )
    assert by_plane[1] == pytest.approx(by_plane[0], rel=0.02)
    assert by_wave[1] > 1.05 * by_wave[0]
