"""Answers whose planes may not gain or lose energy faster than the data did; and fields that are carried on exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from closures.data.scaling import scaling
from closures.data.windows import InMemory
from closures.operators.energy_fixer import fixed, growth, plane_energies
from closures.operators.predictor import Predictor, Scaling, drifted
from solver.errors import CaseError
from tests.coupling.flows import RiggedState
from tests.operators.fields import channel_domain, smooth

DOMAIN = channel_domain(8, 6, 6)
LIMITS = [(float(height), 1.2) for height in DOMAIN.y.unit]


def pair(strength, seed=310_417):
    """A field, and one whose fluctuations are `strength` times as strong, other ones, on another mean flow."""
    random = np.random.default_rng(seed)
    before = smooth(DOMAIN) + 0.1 * torch.from_numpy(random.standard_normal((1, 3, *DOMAIN.shape)))
    drawn = torch.from_numpy(random.standard_normal((1, 3, *DOMAIN.shape)))
    size = (plane_energies(before, DOMAIN) / plane_energies(drawn, DOMAIN)).sqrt()
    mean = (drawn * DOMAIN.x.weights[:, None, None] * DOMAIN.z.weights).sum((2, 4), keepdim=True)
    return before, 0.3 + strength * size[:, None, None, :, None] * (drawn - mean)


@pytest.mark.parametrize("strength", [0.92, 1.0, 1.09])  # their squares lie within 1.2
def test_within_the_bound_nothing_changes(strength):
    before, after = pair(strength)
    assert torch.equal(fixed(before, after, DOMAIN, LIMITS), after)


@pytest.mark.parametrize(("strength", "factor"), [(1.5, 1.2), (0.5, 1 / 1.2), (0.0, 0.0)])
def test_beyond_it_every_plane_has_the_energy_of_the_bound(strength, factor):
    """And the mean over it that it had; a plane without fluctuations has none to rescale."""
    before, after = pair(strength)
    found = fixed(before, after, DOMAIN, LIMITS)
    wanted = factor * plane_energies(before, DOMAIN)
    torch.testing.assert_close(plane_energies(found, DOMAIN), wanted, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(found.mean((2, 4)), after.mean((2, 4)), rtol=0, atol=1e-14)


def test_only_the_planes_that_need_it_are_rescaled():
    before, after = pair(1.5)
    limits = [(height, 3.0 if n == 2 else 1.2) for n, (height, _) in enumerate(LIMITS)]
    same = (fixed(before, after, DOMAIN, limits) == after).all(dim=(0, 1, 2, 4))
    assert same.tolist() == [n == 2 for n in range(DOMAIN.y.n)]


def test_gradients_pass_within_and_beyond():
    before, after = pair(1.0)
    levels = torch.linspace(0.7, 1.5, DOMAIN.y.n)[:, None]
    torch.autograd.gradcheck(
        lambda a, b: fixed(a, levels * b, DOMAIN, LIMITS),
        (before.requires_grad_(), after.requires_grad_()),
        fast_mode=True,
    )


def test_the_bound_is_the_largest_of_the_data_at_a_plane_and_its_mirror_image():
    random = np.random.default_rng(95_661)
    frames = smooth(DOMAIN).repeat(5, 1, 1, 1, 1)
    factors = torch.from_numpy(random.uniform(0.5, 2.0, (5, DOMAIN.y.n)))
    frames = frames * factors.sqrt()[:, None, None, :, None]
    change = (factors[1:] / factors[:-1]).log().abs().amax(0)
    expected = torch.maximum(change, change.flip(0)).exp()
    torch.testing.assert_close(growth(frames[:-1], frames[1:], DOMAIN), expected)
    velocity = frames.movedim(1, -1).numpy()[None].astype(np.float32)
    units = scaling(InMemory(velocity, DOMAIN, 0.1), [0], 1, "increment", fixer=2.0)
    heights, found = np.array(units.limits).T
    np.testing.assert_allclose(heights, DOMAIN.y.unit, atol=1e-12)
    np.testing.assert_allclose(found, expected**2, rtol=1e-4)


def test_a_field_is_carried_on_exactly():
    """Waves below the Nyquist mode, by any distance; far enough and back is where it was."""
    x = DOMAIN.x.points
    wave = lambda at: (torch.cos(2 * at) + 0.3 * torch.sin(3 * at + 1))[None, None, :, None, None]  # noqa: E731
    shape = (1, 3, *DOMAIN.shape)
    found = drifted(wave(x).expand(shape), DOMAIN, 0.37)
    torch.testing.assert_close(found, wave(x - 0.37).expand(shape), rtol=0, atol=1e-13)
    field = torch.randn(shape, generator=torch.Generator().manual_seed(660_128), dtype=torch.float64)
    back = drifted(drifted(field, DOMAIN, 0.37), DOMAIN, -0.37)
    torch.testing.assert_close(back, field, rtol=0, atol=1e-12)


def test_a_network_that_answers_zero_predicts_what_drifts_by():
    units = Scaling(target="increment", mean=(0.3,) * 3, std=(2.0,) * 3, change=(0.1,) * 3, drift=0.2)
    seen = []
    network = RiggedState(lambda field: seen.append(field) or 0.0 * field)
    field = smooth(DOMAIN)
    found = Predictor(network, units)(field, DOMAIN)
    assert torch.equal(found, drifted(field, DOMAIN, 0.2))
    torch.testing.assert_close(2.0 * seen[0] + 0.3, found)  # and it has seen that


def test_x_has_to_be_an_evenly_spaced_period():
    turned = channel_domain(8, 6, 6)
    turned = type(turned)(turned.y, turned.x, turned.z)
    with pytest.raises(CaseError, match=r"\[loss\] frame: x is no evenly spaced period"):
        drifted(torch.zeros(1, 3, *turned.shape, dtype=torch.float64), turned, 0.1)
