"""Errors of fields: exact values on waves, integrals that converge on stretched cells, gradients that stay finite."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from closures.losses.energy import energies, energy_error
from closures.losses.relative_l2 import fluctuation, fluctuation_error, norm, plane_error, relative_l2
from closures.losses.sobolev import sobolev_error
from closures.operators import Domain
from solver.grid.axis import FourierAxis
from solver.grid.grid import Grid
from tests.operators.fields import channel_domain, smooth


def coordinates(domain):
    return torch.meshgrid(*(line.points for line in domain.lines), indexing="ij")


def channel_flow(domain, phase):
    """A mean profile and one wave of each component, turned by `phase`: (1, 3, nx, ny, nz)."""
    x, y, z = coordinates(domain)
    wall = y * (2 - y)
    waves = [0.1 * torch.cos(x + 2 * z + phase), 0.2 * torch.sin(2 * x + phase), 0.05 * torch.cos(4 * z + phase)]
    return torch.stack([wall + wall * waves[0], wall * waves[1], wall * waves[2]])[None]


def test_norm_converges_to_the_integral_with_second_order():
    """Sqrt of the mean of (y (2 - y))^2 over the channel, 8/15; cells that count alike give something else."""
    errors, alike = [], []
    for ny in (16, 32, 64):
        domain = channel_domain(4, ny, 4)
        field = coordinates(domain)[1][None, None]
        field = field * (2 - field)
        errors.append(abs(float(norm(field, domain)) - (8 / 15) ** 0.5))
        alike.append(abs(float((field**2).mean()) ** 0.5 - (8 / 15) ** 0.5))
    assert np.log2(errors[1] / errors[2]) == pytest.approx(2.0, abs=0.1)
    assert alike[2] > 0.1


def test_fluctuation_error_has_its_two_reference_levels():
    domain = channel_domain(8, 6, 8)
    target = channel_flow(domain, 0.3)
    mean = target - fluctuation(target, domain)
    assert float(fluctuation_error(mean, target, domain)) == pytest.approx(1.0, abs=1e-13)
    uncorrelated = channel_flow(domain, 0.3 + np.pi / 2)
    assert float(fluctuation_error(uncorrelated, target, domain)) == pytest.approx(2**0.5, abs=1e-13)
    assert float(relative_l2(mean, target, domain)) < 0.2  # the mean flow hides it


def test_fluctuation_error_does_not_see_the_mean_profile():
    domain = channel_domain(8, 6, 8)
    target = channel_flow(domain, 0.3)
    profile = 0.1 * torch.cos(domain.y.points)[:, None]
    assert float(fluctuation_error(target + profile, target, domain)) < 1e-13
    assert float(relative_l2(target + profile, target, domain)) > 0.05
    assert float(fluctuation_error(target * 1.1, target, domain)) == pytest.approx(0.1, rel=1e-10)


def test_plane_error_sees_every_plane_and_component_alike():
    """An error of a quarter of the fluctuation: everywhere 0.25, in one plane of one component 0.25 / sqrt(3 ny)."""
    domain = channel_domain(8, 6, 8)
    target = channel_flow(domain, 0.3)
    wrong = 0.25 * fluctuation(target, domain)
    assert float(plane_error(target + wrong, target, domain)) == pytest.approx(0.25, rel=1e-4)
    for plane in (0, 3):
        one = torch.zeros_like(wrong)
        one[:, 1, :, plane] = wrong[:, 1, :, plane]
        assert float(plane_error(target + one, target, domain)) == pytest.approx(0.25 / 18**0.5, rel=1e-4)
    target[:, 2] = 0.0  # a component at rest
    assert float(plane_error(target * 1.0, target, domain)) == 0.0


def test_energies_of_waves_scale_by_scale():
    """A quarter of an amplitude's square, by wavenumber; the mean over planes of theirs is that of the volume."""
    domain = channel_domain(8, 6, 8)
    target = channel_flow(domain, 0.3)
    along_x, planes, along_z = energies(target, domain)
    wall = domain.y.points * (2 - domain.y.points)
    square = (wall**2 * domain.y.weights).sum()
    for found, component, k, amplitude in ((along_x, 0, 1, 0.1), (along_x, 1, 2, 0.2), (along_z, 2, 2, 0.05)):
        half = amplitude**2 / 4 * square  # k, of a pair k and -k
        torch.testing.assert_close(found[0, component], torch.eye(4, dtype=half.dtype)[k] * half)
    torch.testing.assert_close((planes * domain.y.weights).sum(-1)[0, 1], 0.02 * square)


def test_energy_error_sees_amplitudes_and_no_phases():
    domain = channel_domain(8, 6, 8)
    target = channel_flow(domain, 0.3)
    mean = target - fluctuation(target, domain)
    weaker = mean + 0.9 * fluctuation(target, domain)
    assert float(energy_error(channel_flow(domain, 0.8)[:, :2], target[:, :2], domain)) < 1e-12
    assert float(energy_error(target * 1.0, target, domain)) == 0.0
    both = energy_error(torch.cat([weaker, target]), torch.cat([target, target]), domain)
    assert float(both[1]) == 0.0
    seen = torch.cat([e.flatten() > 1e-12 * e.max() for e in energies(target, domain)]).double().mean()
    assert float(both[0]) == pytest.approx(0.19 * float(seen) ** 0.5, rel=1e-4)


def test_the_best_answer_in_the_mean_square_lacks_energy():
    """The mean of two followers alike in energy has less, by the square of its error."""
    domain = channel_domain(8, 6, 8)
    followers = [channel_flow(domain, 0.3 + turn) for turn in (-0.2, 0.2)]
    mean = sum(followers) / 2
    energy, less = (float((e * domain.y.weights).sum()) for e in (energies(f, domain)[1] for f in (followers[0], mean)))
    error = float(fluctuation_error(mean, followers[0], domain))
    assert less / energy == pytest.approx(1 - error**2, rel=1e-10)


def test_samples_are_judged_one_by_one():
    domain = channel_domain(8, 6, 8)
    target = torch.cat([channel_flow(domain, p) for p in (0.1, 0.7)])
    factors = torch.tensor([1.2, 0.7], dtype=torch.float64)
    prediction = factors[:, None, None, None, None] * target
    for error in (relative_l2, fluctuation_error):
        torch.testing.assert_close(error(prediction, target, domain), (factors - 1).abs())
    torch.testing.assert_close(sobolev_error(prediction, target, domain, 0.4), (factors - 1).abs())


@pytest.mark.parametrize("length", [0.0, 0.3, 2.0])
def test_sobolev_error_of_waves(length):
    """A wrong wave of wavenumber k on a target of wavenumber 1: sqrt((1 + l^2 k^2) / (1 + l^2)) times its size."""
    box = Domain.of(Grid(*(FourierAxis(12, 2 * np.pi, "2/3") for _ in range(3))))
    x, y, z = coordinates(box)
    target = torch.stack([torch.cos(z), torch.sin(x), torch.sin(y)])[None]
    for k in (1, 3):
        wrong = 0.1 * torch.stack([torch.cos(k * y), torch.sin(k * z), torch.sin(k * x)])[None]
        expected = 0.1 * ((1 + (length * k) ** 2) / (1 + length**2)) ** 0.5
        assert float(sobolev_error(target + wrong, target, box, length)) == pytest.approx(expected, rel=1e-12)


def test_gradients():
    domain = channel_domain(4, 4, 5)
    target = smooth(domain, 1)
    prediction = (1.2 * smooth(domain, 2)).requires_grad_()  # of other energies, too
    for error in (relative_l2, fluctuation_error, plane_error, energy_error, lambda *a: sobolev_error(*a, 0.5)):
        assert torch.autograd.gradcheck(lambda u, e=error: e(u, target, domain), (prediction,), fast_mode=True)
        perfect = target.clone().requires_grad_()
        error(perfect, target, domain).sum().backward()
        assert perfect.grad.abs().max() == 0.0
