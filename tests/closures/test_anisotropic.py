"""Stresses that an eddy viscosity does not have: what does no work, what is realisable, known values in shear."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from closures.algebraic.easm import commutator, explicit_stress, realisable_share
from closures.algebraic.invariants import contraction, symmetric
from closures.algebraic.stabilised_mixed import workless
from closures.registry.registry import create
from solver.errors import CaseError
from tests.closures.flows import NU, answer, drain, make_grid, make_operators, make_velocity, random_fields

POINTS = 300


@pytest.fixture(autouse=True)
def plain_run():
    with torch.no_grad():
        yield


def random_gradient(seed=31):
    g = torch.from_numpy(np.random.default_rng(seed).standard_normal((3, 3, POINTS)))
    g[2, 2] = -g[0, 0] - g[1, 1]
    return tuple(tuple(g[i, j] for j in range(3)) for i in range(3))


def matrix(six):
    xx, yy, zz, xy, xz, yz = six
    return torch.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz], -1).reshape(-1, 3, 3)


def test_the_commutator_is_that_of_matrices_and_does_no_work():
    g = random_gradient()
    a = torch.stack([torch.stack(row) for row in g]).permute(2, 0, 1)
    s, o = 0.5 * (a + a.mT), 0.5 * (a - a.mT)
    found = commutator(symmetric(g), (o[:, 0, 1], o[:, 0, 2], o[:, 1, 2]))
    torch.testing.assert_close(matrix(found), s @ o - o @ s, rtol=0, atol=1e-13)
    assert float(contraction(found, symmetric(g)).abs().max()) < 1e-13


def test_what_is_left_of_a_tensor_does_no_work():
    r, s = symmetric(random_gradient(5)), symmetric(random_gradient(7))
    assert float(contraction(workless(r, s), s).abs().max()) < 1e-13
    trace = sum(f for f in r[:3])
    torch.testing.assert_close(sum(f for f in workless(r, s)[:3]), trace, rtol=0, atol=1e-13)
    rest = tuple(torch.zeros_like(f) for f in s)
    for found, expected in zip(workless(r, rest), r, strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("c", [1e-6, 1e-3, 0.03, 0.3])
def test_explicit_stress_is_realisable_and_drains(c):
    g = random_gradient()
    tau = explicit_stress(g, torch.tensor(c, dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64))
    least = torch.linalg.eigvalsh(matrix(tau))[:, 0]
    k = 0.5 * sum(tau[:3])
    assert float((least / k).min()) > -1e-12
    assert float(contraction(tau, symmetric(g)).max()) <= 0.0
    torch.testing.assert_close(k, c * 0.5 * 2.0 * contraction(symmetric(g), symmetric(g)))


def test_the_share_that_is_realisable_touches_zero():
    a = symmetric(random_gradient(11))
    a = tuple(4.0 * f for f in a)
    share = realisable_share(a)
    least = torch.linalg.eigvalsh(matrix(tuple(share * f for f in a)))[:, 0]
    torch.testing.assert_close(least, torch.full_like(least, -2.0 / 3.0), rtol=0, atol=1e-11)
    small = tuple(0.01 * f for f in a)
    assert torch.equal(realisable_share(small), torch.ones_like(share))


# c, nu_t / (delta^2 |S|), -tau_xy / K, tau_xx / K, tau_yy / K in pure shear, of the formulas by hand
SHEAR = [(0.01, 0.0041, 0.41, 1.10, 0.23), (0.02, 0.0074, 0.37, 0.90, 0.43)]
SHEAR += [(0.05, 0.0119, 0.24, 0.74, 0.59), (0.1, 0.0150, 0.15, 0.69, 0.64)]


@pytest.mark.parametrize(("c", "nu_t", "xy", "xx", "yy"), SHEAR)
def test_explicit_stress_in_pure_shear(c, nu_t, xy, xx, yy):
    """At c = 0.05, Kolmogorov's for c_s = 0.1 (k = 1.5 C_K eps^(2/3) (delta / pi)^(2/3)), the viscosity of 0.11."""
    g = torch.zeros(3, 3, 1, dtype=torch.float64)
    g[0, 1] = 3.0
    rows = tuple(tuple(g[i, j] for j in range(3)) for i in range(3))
    tau = explicit_stress(rows, torch.tensor(c, dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64))
    k = c * 0.5 * 9.0
    assert -float(tau[3]) / k == pytest.approx(xy, abs=0.006)
    assert float(tau[0]) / k == pytest.approx(xx, abs=0.006)
    assert float(tau[1]) / k == pytest.approx(yy, abs=0.006)
    assert float(tau[2]) / k == pytest.approx(2 / 3, abs=1e-12)
    assert -float(tau[3]) / (0.5 * 9.0) == pytest.approx(nu_t, abs=1e-4)


@pytest.mark.parametrize("name", ["easm", "stabilised_mixed"])
def test_no_stress_in_laminar_shear(name):
    grid = make_grid("channel")
    y = grid.y.centres[None, :, None]
    u = y * (2.0 - y) + np.zeros(grid.shape)
    velocity = make_velocity(make_operators(grid), [u, 0 * u, 0.3 * u])
    assert float(answer(create(name, grid=grid, nu=NU), velocity).abs().max()) < 1e-16


def test_the_similar_part_carries_stress_and_no_energy():
    grid = make_grid("channel")
    velocity = make_velocity(make_operators(grid), random_fields(grid))
    model = create("stabilised_mixed", grid=grid, nu=NU)
    term, _ = model(velocity, 0.0, model.init(velocity.operators))
    wale = create("wale", grid=grid, nu=NU)(velocity, 0.0, {})[0]
    torch.testing.assert_close(drain(term, velocity), drain(wale, velocity), rtol=1e-9, atol=1e-12)
    similar = sum(term.tau[:3])  # the trace: of the similar part alone, and an energy
    assert float(similar.min()) > 0.0
    isotropic = (similar / 3.0).abs().mean()
    assert float((term.tau[0] - similar / 3.0).abs().mean()) > 0.1 * float(isotropic)


def test_refused_by_name():
    with pytest.raises(CaseError, match="use 'lagrangian_dynamic_smagorinsky'"):
        create("easm", grid=make_grid("cavity"), nu=NU)
    model = create("stabilised_mixed", grid=make_grid("box"), nu=NU, options={"model": "none"})
    velocity = make_velocity(make_operators(make_grid("box")), random_fields(make_grid("box")))
    with pytest.raises(CaseError, match="should give an eddy viscosity"):
        model(velocity, 0.0, {})
