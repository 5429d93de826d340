"""Convolutions as matrix products: the general convolution's numbers, and gradients that differences confirm."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import conv3d, pad

from closures.pressure_nets import products
from closures.pressure_nets.ends import extended
from closures.pressure_nets.products import convolve


@pytest.mark.parametrize("stretch", [7, 50, 10_000])
def test_products_are_the_convolution_wherever_stretches_end(monkeypatch, stretch):
    monkeypatch.setattr(products, "STRETCH", stretch)
    torch.manual_seed(4)
    f = torch.randn(2, 3, 7, 5, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 3, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    expected = conv3d(f, weight)
    assert torch.allclose(convolve(f, weight), expected, rtol=0, atol=1e-13)
    slope = torch.randn_like(expected)
    found = torch.autograd.grad(convolve(f, weight), (f, weight), slope)
    for ours, theirs in zip(found, torch.autograd.grad(expected, (f, weight), slope), strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)


def test_gradients_agree_with_differences():
    torch.manual_seed(9)
    f = torch.randn(1, 2, 4, 3, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 2, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(convolve, (f, weight))


def test_beyond_walls_and_periods():
    f = torch.randn(1, 2, 3, 4, 5)
    wide = extended(f, (True, False, False))
    assert torch.equal(wide[..., 0, 1:-1, 1:-1], f[..., -1, :, :])
    assert torch.equal(wide[..., 1:-1, -1, 1:-1], f[..., -1, :])
    assert torch.equal(extended(f, (False,) * 3, "zeros"), pad(f, [1] * 6))
    plane = extended(f[:, :, 0], (False, True))
    assert torch.equal(plane[..., 1:-1, 0], f[:, :, 0, :, -1])
