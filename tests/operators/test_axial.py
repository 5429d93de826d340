"""Axial kernels and the normalised mixture of their results against the formulas that define them."""

from __future__ import annotations

import math

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn.functional import gelu, layer_norm, linear

from closures.operators.axial import NormalisedMix, apply_along, harmonic_angles, means, published_angles
from closures.operators.ifactformer import EPSILON, AxialBlock
from tests.operators.fields import channel_domain, randomise

AXES = "xyz"


def drawn(*shape, seed=41, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def normalised(z, domain, published=False):
    """Every channel over its rms in the volume; published: less its mean, over its standard deviation."""
    if published:
        z = z - z.mean((1, 2, 3), keepdim=True)
        return z / torch.sqrt(z.square().mean((1, 2, 3), keepdim=True) + EPSILON)
    square = torch.einsum("bxyzc,xyz->bc", z**2, domain.volumes)
    return z / torch.sqrt(square + EPSILON)[:, None, None, None]


@pytest.mark.parametrize("axis", range(3))
def test_kernels_are_summed_along_their_axis(axis):
    values = drawn(2, 3, 4, 5, 6)
    kernel = drawn(2, 3 + axis, 3 + axis, seed=43)
    expected = torch.einsum(f"bi{AXES[axis]},bxyzc->{'bxyzc'.replace(AXES[axis], 'i')}", kernel, values)
    torch.testing.assert_close(apply_along(kernel, values, axis), expected)


def test_means_weigh_the_two_other_axes():
    domain, f = channel_domain(4, 5, 6), drawn(2, 4, 5, 6, 3)
    weights = [line.weights for line in domain.lines]
    for axis, found in enumerate(means(f, weights)):
        a, b = (AXES[d] for d in range(3) if d != axis)
        others = [weights[d] for d in range(3) if d != axis]
        torch.testing.assert_close(found, torch.einsum(f"bxyzc,{a},{b}->b{AXES[axis]}c", f, *others))


def test_normalised_mix_and_its_gradients():
    domain = channel_domain(3, 4, 2)
    fields = [drawn(2, *domain.shape, 3, seed=s).requires_grad_() for s in (47, 53)]
    matrices = drawn(2, 4, 3).requires_grad_()
    expected = sum(linear(normalised(z, domain), m) for z, m in zip(fields, matrices, strict=True))
    torch.testing.assert_close(NormalisedMix.apply(domain.volumes, matrices, EPSILON, *fields), expected)
    assert gradcheck(lambda m, *z: NormalisedMix.apply(domain.volumes, m, EPSILON, *z), (matrices, *fields))


def test_normalised_mix_of_half_precision_sums_in_full():
    """Values of 256 and 1 / 256: their squares, and the sum over the fields, are lost if the sums are rounded too."""
    domain = channel_domain(8, 8, 8, torch.float32)
    fields = [drawn(1, *domain.shape, 4, seed=s, dtype=torch.float32) * size for s, size in ((3, 256.0), (5, 2.0**-8))]
    matrices = drawn(2, 6, 4, dtype=torch.float32)
    half = [z.bfloat16() for z in fields]
    exact = NormalisedMix.apply(domain.volumes, matrices, 0.0, *(z.float() for z in half))
    with torch.autocast("cpu", torch.bfloat16):
        rough = NormalisedMix.apply(domain.volumes, matrices, 0.0, *half)
    assert rough.dtype == torch.float32
    assert (rough - exact).norm() < 4e-3 * exact.norm()  # one rounding of the matrices and one of each product


@pytest.mark.parametrize("chained", [False, True])
@pytest.mark.parametrize("published", [False, True])
def test_block_is_its_definition(chained, published):
    """All heads at once, summaries put together, normalised and mixed: as the papers write it."""
    domain, width, heads, rank = channel_domain(4, 5, 3), 4, 2, 6
    block = randomise(AxialBlock(width, heads, rank, 2, chained, published).double(), 7)
    v = drawn(2, *domain.shape, width)
    h = layer_norm(v, (width,), block.norm.weight, block.norm.bias)
    values, g = block.value(h).unflatten(-1, (heads, width)), block.enter(h)
    results = []
    z = values
    for d, line in enumerate(domain.lines):
        if published:
            mean = g.mean([1 + k for k in range(3) if k != d])
            kernel = block.kernels[d](mean, published_angles(line, rank))
        else:
            weights = [domain.lines[k].weights if k != d else torch.ones(line.n).double() for k in range(3)]
            mean = torch.einsum("bxyzc,x,y,z->bxyzc", g, *weights).sum([1 + k for k in range(3) if k != d])
            kernel = block.kernels[d](mean, harmonic_angles(line, rank, 2)) * line.weights / math.sqrt(rank)
        moved = "bxyzhc".replace(AXES[d], "i")
        z = torch.einsum(f"bhi{AXES[d]},bxyzhc->{moved}", kernel, z if chained else values)
        results.append(z)
    together = (z if chained else torch.cat(results, dim=-1)).flatten(-2)
    expected = block.leave(gelu(block.mix(normalised(together, domain, published))))
    assert expected.std() > 1e-3
    torch.testing.assert_close(block(v, domain), expected, rtol=1e-11, atol=1e-12)
