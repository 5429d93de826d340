"""The pieces of a spectral convolution against what defines them, and the order in memory that they leave."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from closures.operators import Domain
from closures.operators.spectral import HalfSpectrum, ModewiseProduct, SpectralConvolution
from solver.grid.axis import FourierAxis
from solver.grid.grid import Grid
from tests.operators.fields import channel_domain


def drawn(*shape, dtype=torch.complex128, seed=19):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("batch", [1, 3])
def test_modewise_product_is_its_sum_and_so_are_its_gradients(batch):
    operands = drawn(batch, 3, 4, 2, 3), drawn(3, 5, 4, 2, 3, seed=23)
    slope = drawn(batch, 5, 4, 2, 3, seed=29)
    answers = []
    for product in (ModewiseProduct.apply, lambda a, b: torch.einsum("bixyz,ioxyz->boxyz", a, b)):
        spectrum, weight = (t.clone().requires_grad_() for t in operands)
        result = product(spectrum, weight)
        answers.append([result, *torch.autograd.grad(result, [spectrum, weight], slope)])
    for found, expected in zip(*answers, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("fixed", [None, 0, 1])
def test_gradients_of_the_modewise_product(batch, fixed):
    operands = [drawn(batch, 2, 2, 1, 2), drawn(2, 3, 2, 1, 2, seed=23)]
    for i, operand in enumerate(operands):
        operand.requires_grad_(i != fixed)
    assert gradcheck(ModewiseProduct.apply, operands)


@pytest.mark.parametrize("dims", [[2], [2, 3], [2, 4], [2, 3, 4], [4, 3]])
@pytest.mark.parametrize("shape", [(1, 2, 4, 3, 5), (2, 1, 3, 5, 4)])  # odd and even lengths are halved differently
def test_half_spectrum_and_its_gradient(shape, dims):
    field = drawn(*shape, dtype=torch.float64).requires_grad_()
    torch.testing.assert_close(HalfSpectrum.apply(field, dims), torch.fft.rfftn(field, dim=dims, norm="forward"))
    assert gradcheck(lambda f: HalfSpectrum.apply(f, dims), [field])


def box(*shape):
    return Domain.of(Grid(*(FourierAxis(n, 2.0, "2/3") for n in shape)))


@pytest.mark.parametrize("walled", [False, True])
def test_gradients_on_a_grid_too_coarse_for_some_modes(walled):
    """Weights of modes that the grid drops are neither read nor moved; all others are."""
    domain = channel_domain(5, 3, 4) if walled else box(5, 4, 3)
    convolution = SpectralConvolution(2, (3, 4, 2), domain.periodic).double()
    field = drawn(2, 2, *domain.shape, dtype=torch.float64).requires_grad_()

    def evaluate(f, weight):
        return torch.func.functional_call(convolution, {"weight": weight}, (f, domain))

    assert gradcheck(evaluate, (field, convolution.weight), fast_mode=True)
    (slope,) = torch.autograd.grad(evaluate(field, convolution.weight).square().sum(), convolution.weight)
    moved = (slope.abs().sum((0, 1, -1)) > 0).sum()
    assert moved == 5 * 3 * 2  # -2 .. 2, three polynomials or -1 .. 1, 0 .. 1


@pytest.mark.parametrize("walled", [False, True])
def test_fields_and_gradients_are_contiguous(walled):
    """Pointwise work on two orders in memory is ten times as slow as on one."""
    domain = channel_domain(6, 5, 4) if walled else box(6, 5, 4)
    convolution = SpectralConvolution(2, (2, 3, 1), domain.periodic).double()
    leaf = torch.from_numpy(np.random.default_rng(3).standard_normal((2, 2, *domain.shape))).requires_grad_()
    seen = []
    field = leaf * 1.0
    field.register_hook(lambda slope: seen.append(slope.is_contiguous()))
    result = convolution(field, domain)
    result.backward(torch.ones_like(result))
    assert result.is_contiguous()
    assert seen == [True]
