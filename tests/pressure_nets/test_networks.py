"""The published networks: their size, what they may depend on, what they keep."""

from __future__ import annotations

import pytest
import torch

from closures.pressure_nets.conjugate_net import ConjugateDirectionNet
from closures.pressure_nets.geometry_net import GeometryNet


def parameters(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def ball(n: int, centre: float = 0.5) -> torch.Tensor:
    """1 outside a ball, (1, 1, n, n, n)."""
    x = (torch.arange(n) + 0.5) / n - centre
    r2 = x[:, None, None] ** 2 + x[None, :, None] ** 2 + x[None, None, :] ** 2
    return (r2 > 0.05).float()[None, None]


@pytest.mark.parametrize(
    ("network", "count"),
    [
        (ConjugateDirectionNet(), 97_457),
        (ConjugateDirectionNet(trained_for=128), 152_881),
        (ConjugateDirectionNet(dimensions=2), 32_657),
        (GeometryNet(levels=4), 20_582),
        (GeometryNet(levels=5), 25_174),
    ],
    ids=["64", "128", "plane", "four levels", "five levels"],
)
def test_published_parameter_counts(network, count):
    assert parameters(network) == count


def test_deep_network_shifts_with_its_input():
    """By even steps, away from the walls: what convolutions and one halving leave of translation invariance."""
    torch.manual_seed(7)
    network = ConjugateDirectionNet().double()
    r, fluid = torch.zeros(1, 1, 52, 8, 8, dtype=torch.float64), torch.ones(1, 1, 52, 8, 8)
    r[..., 22:24, 3:5, 3:5] = torch.randn(2, 2, 2, dtype=torch.float64)
    with torch.no_grad():
        here, there = network(r, fluid), network(r.roll(4, -3), fluid)
    inner = slice(22, 30)  # nothing that a wall of x does reaches so far: 19 cells is the reach
    assert float(here[..., inner, :, :].std()) > 0
    assert torch.allclose(here[..., 22:26, :, :], there[..., 26:30, :, :], rtol=0, atol=1e-12)


def test_geometry_network_is_linear_in_the_residual_and_reads_the_geometry():
    torch.manual_seed(11)
    network = GeometryNet(levels=3).double()
    fluid, other = ball(16).double(), ball(16, 0.4).double()
    a, b = torch.randn(2, 1, 16, 16, 16, dtype=torch.float64).unbind(0)
    with torch.no_grad():
        image_a, image_b = network(a[None], fluid), network(b[None], fluid)
        both = network((2.0 * a - 3.0 * b)[None], fluid)
        elsewhere = network(a[None], other)
        again = network(a[None], fluid)
    assert torch.allclose(both, 2.0 * image_a - 3.0 * image_b, rtol=0, atol=1e-12 * float(both.abs().max()))
    assert float((elsewhere - image_a).abs().max()) > 1e-3 * float(image_a.abs().max())
    assert torch.equal(again, image_a)


def test_geometry_is_kept_only_while_it_and_the_weights_stay():
    network = GeometryNet(levels=1)
    fluid, r = ball(8), torch.randn(1, 1, 8, 8, 8)
    with torch.no_grad():
        before = network(r, fluid)
        fluid[..., :3] = 0.0
        changed = network(r, fluid)
        assert float((before - changed).abs().max()) > 0
        network.bottom.weights.bias.add_(0.1)
        assert float((network(r, fluid) - changed).abs().max()) > 0
        for centre in (0.3, 0.4, 0.6, 0.7):  # each may come to lie where the one before was
            fresh = GeometryNet(levels=1)
            fresh.load_state_dict(network.state_dict())
            body = ball(8, centre)
            assert torch.equal(network(r, body), fresh(r, body))
            del body
    loss = network(r, fluid).square().sum()
    loss.backward()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in network.parameters())


def test_periodic_boxes_have_no_seam():
    """A network moves with its input, by what its coarsest grid allows, along a periodic axis and only there."""
    torch.manual_seed(13)
    r, fluid = torch.randn(1, 1, 16, 16, 16, dtype=torch.float64), ball(16).double()
    for network in (GeometryNet(levels=2).double(), ConjugateDirectionNet(walls="mirror").double()):
        with torch.no_grad():
            here = network(r, fluid, (True, False, False))
            for axis, moves in ((-3, True), (-1, False)):
                there = network(r.roll(8, axis), fluid.roll(8, axis), (True, False, False))
                difference = float((there - here.roll(8, axis)).abs().max() / here.abs().max())
                assert difference < 1e-12 if moves else difference > 1e-3
