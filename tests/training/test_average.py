"""The moving average of the weights is the sum that it says, and the network has its own weights back."""

from __future__ import annotations

import pytest
import torch

from closures.training.average import Average


def test_it_is_the_weighted_sum_of_all_weights():
    torch.manual_seed(60)
    network, decay = torch.nn.Linear(3, 2).double(), 0.8
    average, passed = Average(network, decay), [network.weight.detach().clone()]
    for step in range(40):
        with torch.no_grad():
            network.weight.copy_(torch.randn(2, 3))
        average.follow(step)
        passed.append(network.weight.detach().clone())
    keep = [min(decay, (1 + n) / (10 + n)) for n in range(40)]
    shares = [torch.tensor([1.0, *(1 - k for k in keep)])[i] * float(torch.tensor(keep[i:]).prod()) for i in range(41)]
    assert float(sum(shares)) == pytest.approx(1.0, abs=1e-6)
    expected = sum(share * w for share, w in zip(shares, passed, strict=True))
    torch.testing.assert_close(average.copy()["weight"], expected, rtol=1e-5, atol=1e-6)
    with average.in_place():
        torch.testing.assert_close(network.weight.detach(), average.copy()["weight"], rtol=0, atol=0)
    torch.testing.assert_close(network.weight.detach(), passed[-1], rtol=0, atol=0)


def test_without_decay_it_is_the_network():
    network = torch.nn.Linear(2, 2)
    average = Average(network, 0.0)
    average.follow(3)
    with average.in_place():
        assert torch.equal(average.copy()["weight"], network.weight.detach())
    assert not average.values
