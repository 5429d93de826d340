"""The tensor-basis network and the convolutional one: symmetries, units, dissipation, halos, gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.func import functional_call

from closures.operators import build
from closures.operators.stress import Cells, dissipation, limited, matrix, scalars, six, trace
from closures.operators.tensor_basis import TENSORS, pope
from tests.closeness import ROUND_OFF, assert_round_off
from tests.operators.fields import randomise

SHAPE = (5, 8, 6)
SMALL = {"tensor_basis": {"width": 7}, "cnn": {"width": 4}}
every_model = pytest.mark.parametrize("name", SMALL)


def small(name, seed=21, **changes):
    return randomise(build(name, **(SMALL[name] | changes)).double(), seed, scale=0.5)


def noise(seed, shape=SHAPE, batch=2):
    """Trace-free velocity gradients of order one at every point."""
    g = torch.from_numpy(np.random.default_rng(seed).standard_normal((batch, 3, 3, *shape)))
    return g - torch.eye(3).double().reshape(1, 3, 3, 1, 1, 1) * (trace(g) / 3)[:, None, None]


def cells(ny=SHAPE[1], nu=0.01, **changes):
    y = torch.linspace(-1, 1, ny, dtype=torch.float64)
    delta = (0.1 + 0.1 * (1 - y**2))[:, None]
    return Cells(delta, nu, (1.05 - y.abs())[:, None], **changes)


def turned(a, q):
    """``q a q^T`` at every point."""
    return torch.einsum("ik,bkl...,jl->bij...", q, a, q)


def orthogonal(seed):
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))
    return torch.from_numpy(q * np.sign(np.diag(r)))


@pytest.mark.parametrize("backscatter", [None, 0.0, 0.01])
@pytest.mark.parametrize("mirror", [1.0, -1.0])
def test_tensor_basis_turns_with_the_axes(mirror, backscatter):
    network, g = small("tensor_basis", backscatter=backscatter), noise(1)
    for seed in range(3):
        q = mirror * orthogonal(seed)
        expected = turned(matrix(network(g, cells())), q)
        torch.testing.assert_close(matrix(network(turned(g, q), cells())), expected, rtol=0, atol=1e-12)
        assert expected.abs().max() > 1e-6


def test_the_convolutional_model_does_not_turn_and_does_not_claim_it():
    network, g, q = small("cnn"), noise(2), orthogonal(5)
    expected = turned(matrix(network(g, cells())), q)
    assert "rotation" not in network.symmetries
    assert (matrix(network(turned(g, q), cells())) - expected).abs().max() > 0.1 * expected.abs().max()


def test_pope_basis_against_matrix_products():
    """Table 1 of Pope (1975), written out with matrix products, and the number of independent tensors."""
    g = noise(3, (1, 1, 1), batch=40)
    basis, invariants = pope(g)
    identity = torch.eye(3, dtype=torch.float64)
    for m, tensors, known in zip(g[..., 0, 0, 0], basis[..., 0, 0, 0], invariants[..., 0, 0, 0], strict=True):
        s, w = (m + m.T) / 2, (m - m.T) / 2
        tr = torch.trace
        expected = [
            s,
            s @ w - w @ s,
            s @ s - identity * tr(s @ s) / 3,
            w @ w - identity * tr(w @ w) / 3,
            w @ s @ s - s @ s @ w,
            w @ w @ s + s @ w @ w - identity * 2 / 3 * tr(s @ w @ w),
            w @ s @ w @ w - w @ w @ s @ w,
            s @ w @ s @ s - s @ s @ w @ s,
            w @ w @ s @ s + s @ s @ w @ w - identity * 2 / 3 * tr(s @ s @ w @ w),
            w @ s @ s @ w @ w - w @ w @ s @ s @ w,
        ]
        found = matrix(tensors)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
        values = [tr(s @ s), tr(w @ w), tr(s @ s @ s), tr(w @ w @ s), tr(w @ w @ s @ s)]
        torch.testing.assert_close(known, torch.stack(values), rtol=1e-12, atol=1e-13)
    assert torch.linalg.matrix_rank(basis[0, :, :, 0, 0, 0]) == 5  # a trace-free symmetric tensor has five components


@every_model
def test_symmetric_without_trace_and_zero_in_uniform_flow(name):
    network = small(name)
    tau = network(noise(4), cells())
    assert tau.abs().max() > 1e-6
    assert trace(matrix(tau)).abs().max() < 1e-15 + 1e-13 * tau.abs().max()
    assert network(torch.zeros_like(noise(4)), cells()).abs().max() == 0.0


@every_model
def test_units(name):
    """Lengths times a, times by b: stresses times (a / b)^2, whatever the weights."""
    network, g, a, b = small(name), noise(6), 3.0, 0.2
    here = cells()
    there = Cells(a * here.delta, here.nu * a * a / b, a * here.wall_distance)
    torch.testing.assert_close(network(g / b, there), network(g, here) * (a / b) ** 2, rtol=1e-11, atol=0)


@every_model
@pytest.mark.parametrize("backscatter", [0.0, 1e-5])
def test_dissipation_is_bounded_and_otherwise_left_alone(name, backscatter):
    g, here = noise(7), cells()
    seed = 34  # weights that drain at some points and return energy at others
    free, bound = small(name, seed)(g, here), small(name, seed, backscatter=backscatter)(g, here)
    least = -backscatter * here.delta**2 * (g * g).sum(dim=(1, 2)) ** 1.5
    drained, before = dissipation(bound, g), dissipation(free, g)
    round_off = 1e-12 * float(before.detach().abs().max())
    acted = before < least
    assert 0.05 < acted.double().mean() < 0.95
    assert (drained - least).min() > -round_off
    torch.testing.assert_close(drained[acted], least[acted], rtol=0, atol=round_off)
    untouched = (~acted)[:, None].expand_as(free)
    torch.testing.assert_close(bound[untouched], free[untouched], rtol=0, atol=0)


def test_the_limit_is_the_smallest_change():
    """What is added is along the strain, so no other stress with that drain is nearer."""
    g, here = noise(8), cells()
    tau = torch.from_numpy(np.random.default_rng(9).standard_normal((2, 6, *SHAPE)))
    change = matrix(limited(tau, g, here, 0.0) - tau)
    strain = (g + g.transpose(1, 2)) / 2
    parallel = (change * strain).sum((1, 2)) ** 2
    torch.testing.assert_close(parallel, (change**2).sum((1, 2)) * (strain**2).sum((1, 2)), rtol=1e-9, atol=1e-18)


def test_new_tensor_basis_is_smagorinsky_with_the_norm_of_the_gradient():
    """And with van Driest's damping."""
    g, here = noise(10), cells()
    tau = build("tensor_basis", c_s=0.2).double()(g, here)
    strain, norm = (g + g.transpose(1, 2)) / 2, (g * g).sum(dim=(1, 2)).sqrt()
    damping = (1 - scalars(g, here)[:, 1]) ** 2
    expected = -2 * 0.2**2 * (damping * here.delta**2 * norm)[:, None] * six(strain)
    torch.testing.assert_close(tau, expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(("depth", "kernel", "reach"), [(2, 3, 2), (1, 5, 2), (3, 1, 0)])
@pytest.mark.parametrize("periodic", [True, False])
def test_slabs_with_halos_give_the_whole_field(depth, kernel, reach, periodic):
    """Two slabs in y, each with `reach` planes of its neighbour, or copies of the nearest plane at a wall."""
    network = small("cnn", depth=depth, kernel=kernel, backscatter=0.0)
    assert network.reach == reach
    g, kind = noise(11), (True, periodic, True)
    whole = network(g, cells(periodic=kind))
    planes = np.arange(-reach, SHAPE[1] + reach)
    planes = planes % SHAPE[1] if periodic else planes.clip(0, SHAPE[1] - 1)
    here = cells(periodic=kind)
    for start, stop in ((0, 3), (3, SHAPE[1])):
        own = torch.from_numpy(planes[start : stop + 2 * reach])
        slab = Cells(here.delta[own], here.nu, here.wall_distance[own], kind, halos=True)
        torch.testing.assert_close(network(g[..., own, :], slab), whole[..., start:stop, :], rtol=0, atol=1e-14)


def test_reach_is_what_is_read():
    network = small("cnn", depth=2)
    g, far = noise(12, (4, 9, 4), 1), cells(9)
    changed = g.clone()
    changed[..., 0, :] += 0.7
    difference = (network(changed, far) - network(g, far)).abs().amax(dim=(0, 1, 2, 4))
    assert difference[network.reach] > 1e-8
    assert difference[network.reach + 1 :].max() < ROUND_OFF[g.dtype]  # kernels may work on tiles of planes


@every_model
def test_shifts_along_periodic_directions(name):
    network, g, here = small(name), noise(13), cells()
    moved = network(g.roll((2, 1), (3, 5)), here)
    torch.testing.assert_close(moved, network(g, here).roll((2, 1), (2, 4)), rtol=0, atol=1e-13)


@every_model
def test_no_wall_is_an_infinitely_distant_one(name):
    network, g, here = small(name), noise(14), cells()
    far = Cells(here.delta, here.nu, torch.full_like(here.delta, torch.inf))
    assert_round_off(network(g, far), network(g, Cells(here.delta, here.nu)))
    assert (network(g, far) - network(g, here)).abs().max() > 1e-8


@every_model
@pytest.mark.parametrize("backscatter", [None, 0.01])
def test_gradients_in_double_precision(name, backscatter):
    network, here = small(name, width=3, backscatter=backscatter), cells(3)
    g = noise(15, (3, 3, 3), 1).requires_grad_()
    weights = dict(network.named_parameters())

    def evaluate(g, *values):
        return functional_call(network, dict(zip(weights, values, strict=True)), (g, here))

    assert torch.autograd.gradcheck(evaluate, (g, *weights.values()), fast_mode=True)


@every_model
def test_gradients_are_finite_at_rest(name):
    network, g = small(name, backscatter=0.0), torch.zeros((1, 3, 3, 3, 3, 3), dtype=torch.float64, requires_grad=True)
    network(g, cells(3)).sum().backward()
    assert torch.isfinite(g.grad).all()
    assert all(torch.isfinite(w.grad).all() for w in network.parameters() if w.grad is not None)


def test_fewer_tensors_are_the_first_ones():
    g = noise(16, (2, 2, 2))
    for count in (1, 4):
        torch.testing.assert_close(pope(g, count)[0], pope(g)[0][:, :count])
    assert pope(g)[0].shape[1] == TENSORS
