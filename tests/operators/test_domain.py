"""Derivatives along the lines of a domain."""

from __future__ import annotations

import numpy as np
import pytest
import torch

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
