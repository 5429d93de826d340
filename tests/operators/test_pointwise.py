"""Linear maps of the channels against the convolution that they replace."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from closures.operators.pointwise import Channelwise


def pair(channels_in, channels_out, dtype):
    torch.manual_seed(31)
    ours = Channelwise(channels_in, channels_out)
    torch.manual_seed(31)
    return ours.to(dtype), nn.Conv3d(channels_in, channels_out, 1).to(dtype)


def answers(module, field, half):
    field = field.detach().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        result = module(field)
    slope = torch.linspace(-1, 1, result.numel(), dtype=result.dtype).view(result.shape)
    return result, *torch.autograd.grad(result, [field, *module.parameters()], slope)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last_3d, "transposed"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("dtype", "half", "tolerance"),
    [(torch.float64, False, 1e-13), (torch.float32, False, 1e-5), (torch.float32, True, 2e-2)],
)
def test_equals_a_convolution_with_a_kernel_of_one_point(dtype, half, tolerance, batch, order):
    field = torch.randn(batch, 3, 4, 5, 6, dtype=dtype, generator=torch.Generator().manual_seed(37))
    field = field.transpose(2, 4) if order == "transposed" else field.contiguous(memory_format=order)
    ours, convolution = pair(3, 7, dtype)
    for found, expected in zip(answers(ours, field, half), answers(convolution, field, half), strict=True):
        assert found.dtype == expected.dtype
        assert (found - expected).norm() < tolerance * expected.norm()


def test_weights_are_those_of_the_convolution():
    ours, convolution = pair(4, 2, torch.float32)
    for (name, found), (key, expected) in zip(ours.state_dict().items(), convolution.state_dict().items(), strict=True):
        assert name == key
        assert torch.equal(found, expected)
    ours.load_state_dict(convolution.state_dict())
