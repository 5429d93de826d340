"""Derivatives and shifts along the lines of a domain, and products that do not fold back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from closures.operators import Domain
from closures.operators.products import (
    dealiased_product,
    pointwise_product,
    with_derivatives,
    with_walls,
    without_walls,
)
from solver.grid.axis import FourierAxis
from solver.grid.grid import Grid
from tests.operators.fields import channel_domain


def test_derivatives_are_spectral_along_periods():
    domain = channel_domain(8, 6, 9)
    for line, k in ((domain.x, 3), (domain.z, 8)):
        wave, exact = torch.sin(k * line.points), k * torch.cos(k * line.points)
        torch.testing.assert_close(line.derivative @ wave, exact, rtol=0, atol=1e-12)
    nyquist = torch.cos(4 * domain.x.points)
    torch.testing.assert_close(domain.x.derivative @ nyquist, 0 * nyquist, rtol=0, atol=1e-12)


def test_derivatives_are_fourth_order_across_walls_and_exact_for_quartics():
    errors = []
    for ny in (16, 32, 64):
        y, matrix = (line := channel_domain(4, ny, 4).y).points, line.derivative
        errors.append(float((matrix @ torch.sin(3 * y) - 3 * torch.cos(3 * y)).abs().max()))
        torch.testing.assert_close(matrix @ (y**4 - y), 4 * y**3 - 1, rtol=0, atol=1e-10)
    assert np.log2(errors[1] / errors[2]) == pytest.approx(4.0, abs=0.5)


def test_few_points_are_differentiated_as_well_as_they_can_be():
    for ny in (2, 3):
        line = channel_domain(4, ny, 4).y
        torch.testing.assert_close(line.derivative @ line.points, torch.ones_like(line.points), rtol=0, atol=1e-13)


def test_half_a_spacing_along_is_exact_for_waves_and_its_transpose_goes_back():
    domain = channel_domain(8, 6, 9)
    for line, k in ((domain.x, 3), (domain.z, 8)):
        shift, wave = line.half_shift, torch.sin(k * line.points)
        torch.testing.assert_close(shift @ wave, torch.sin(k * (line.points + line.length / (2 * line.n))))
        torch.testing.assert_close(shift.T @ shift @ wave, wave)
    with pytest.raises(ValueError, match="spacings are equal"):
        _ = domain.y.half_shift


@pytest.mark.parametrize(("along_x", "along_z", "left"), [(3, 0, 0.0), (0, 6, 0.0), (3, 6, 1.0)])
def test_products_that_fold_back_in_one_direction_vanish(along_x, along_z, left):
    """The square of a wave is one half and a wave twice as short, too short for 8 and 9 points."""
    domain = channel_domain(8, 3, 9)
    phase = along_x * domain.x.points[:, None, None] + along_z * domain.z.points
    wave = torch.cos(phase).expand(1, 1, *domain.shape)
    factors = torch.cat([wave, wave], dim=1)
    aliased = pointwise_product(factors, nn.Identity()) - 0.5
    found = dealiased_product(factors, nn.Identity(), domain) - 0.5
    torch.testing.assert_close(aliased[0, 0], 0.5 * torch.cos(2 * phase).expand(domain.shape))
    torch.testing.assert_close(found, left * aliased)


def test_walls_among_the_points_are_where_the_field_vanishes():
    """A parabola that is zero on walls keeps its slope there; polynomials and integrals stay those of the cells."""
    domain = channel_domain(4, 12, 4)
    y = domain.y.points
    field, wider = with_walls((y * (2 - y))[:, None].expand(1, 1, *domain.shape), domain)
    assert wider.shape == (4, 14, 4)
    slopes = with_derivatives(field, wider, (1.0, 1.0, 1.0))[0, 2, 0, :, 0]
    torch.testing.assert_close(slopes, 2 - 2 * wider.y.points, rtol=0, atol=1e-12)
    assert (wider.y.points[0], wider.y.points[-1]) == (0.0, 2.0)
    torch.testing.assert_close(without_walls(field, wider), field[..., 1:-1, :])
    torch.testing.assert_close(wider.y.polynomials(4)[1:-1], domain.y.polynomials(4))
    assert float(wider.volumes.sum()) == pytest.approx(1.0)


def test_a_free_box_has_no_walls_to_add():
    box = Domain.of(Grid(*(FourierAxis(6, 2.0, "2/3") for _ in range(3))))
    field, same = with_walls(torch.ones(1, 1, *box.shape), box)
    assert field.shape[2:] == same.shape == box.shape
