"""Laws of the wall solve their own equations, meet at both ends, and give the friction of published profiles."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import lambertw

from closures.algebraic import wall_laws
from closures.algebraic.wall_friction import LAWS, Friction
from solver.analysis.reference import ChannelReference
from solver.flow.wall_stress import WallSample

CASES = Path(__file__).parents[2] / "cases"
RE = torch.logspace(-6, 10, 300, dtype=torch.float64)
KAPPA, B = 0.39, 4.6
BY_NAME = {
    "explicit": lambda re: wall_laws.explicit(re, KAPPA, B),
    "spalding": lambda re: wall_laws.spalding(re, KAPPA, B),
    "reichardt": lambda re: wall_laws.reichardt(re, KAPPA, B),
    "equilibrium": wall_laws.Equilibrium(),
}


def friction(law, u, w, height=0.1, nu=1e-4, name="law"):
    """The stresses of a law as a wall model."""
    sample, model = WallSample((u, w), height, nu), Friction(name, law)
    model.init(sample)
    return model(sample, 0.0, {})[0]


def test_lambert_w():
    np.testing.assert_allclose(wall_laws.lambert_w(RE).numpy(), lambertw(RE.numpy()).real, rtol=1e-14)


def test_the_explicit_law_is_the_log_law_and_the_laminar_one():
    """Where its blend is over to round-off; ``E y+`` is the exponential of ``kappa u+``."""
    far, near = RE[RE > 1e4], RE[RE < 1e-4]
    u = wall_laws.explicit(far, KAPPA, B)
    torch.testing.assert_close(torch.log(far / u) / KAPPA + B, u, rtol=1e-13, atol=0)
    torch.testing.assert_close(wall_laws.explicit(near, KAPPA, B), near.sqrt(), rtol=1e-6, atol=0)


def test_spalding_solves_its_equation():
    u = wall_laws.spalding(RE, KAPPA, B)
    series = [(KAPPA * u) ** n / math.factorial(n) for n in range(4)]
    tail = torch.exp(KAPPA * u) - sum(series)
    torch.testing.assert_close(u * (u + math.exp(-KAPPA * B) * tail), RE, rtol=1e-12, atol=0)


def test_reichardt_solves_its_equation():
    u = wall_laws.reichardt(RE, KAPPA, B)
    y = RE / u
    c = B - math.log(KAPPA) / KAPPA
    wake = 1.0 - torch.exp(-y / 11.0) - y / 11.0 * torch.exp(-y / 3.0)
    torch.testing.assert_close(torch.log1p(KAPPA * y) / KAPPA + c * wake, u, rtol=1e-9, atol=0)


def test_the_equilibrium_law_is_its_quadrature():
    """At y+ of the answers, by adaptive quadrature of the mean strain."""
    law = wall_laws.Equilibrium(0.387, 15.25)
    re = torch.tensor([1e-3, 3.0, 200.0, 4e3, 1e5, 1e8], dtype=torch.float64)

    def strain(x):
        y = math.expm1(x)
        return math.exp(x) / (1.0 + 0.387 * y * math.expm1(-y / 15.25) ** 2)

    for u, r in zip(law(re).tolist(), re.tolist(), strict=True):
        exact = quad(strain, 0.0, math.log1p(r / u), epsabs=0, epsrel=1e-13, limit=300)[0]
        assert u == pytest.approx(exact, rel=1e-12)
    assert law.b == pytest.approx(4.21, abs=0.005)  # Kawai & Larsson's constants as a log law
    assert wall_laws.Equilibrium().b == pytest.approx(5.14, abs=0.005)


@pytest.mark.parametrize("name", BY_NAME)
def test_laws_meet_beside_the_wall_and_far_from_it(name):
    """u+ = y+ and the log law; in between they differ, but by less than two units, and all rise."""
    u = BY_NAME[name](RE)
    torch.testing.assert_close(u[RE < 1e-3], RE[RE < 1e-3].sqrt(), rtol=1e-3, atol=0)
    constants = (wall_laws.KAPPA, BY_NAME[name].b) if name == "equilibrium" else (KAPPA, B)
    y = RE / u
    far = y > 1e7
    torch.testing.assert_close(torch.log(y[far]) / constants[0] + constants[1], u[far], rtol=2e-5, atol=0)
    assert bool((u[1:] > u[:-1]).all())
    assert float((u - wall_laws.explicit(RE, *constants)).abs().max()) < 1.0


@pytest.mark.parametrize("name", BY_NAME)
def test_gradients_are_those_of_differences(name):
    re = torch.logspace(-3, 7, 21, dtype=torch.float64).requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(BY_NAME[name](re).sum(), re)
    h = 1e-4 * re.detach()
    differences = (BY_NAME[name](re.detach() + h) - BY_NAME[name](re.detach() - h)) / (2 * h)
    torch.testing.assert_close(slope, differences, rtol=1e-6, atol=0)


# error of the wall stress in per cent, from the mean velocity at 0.1 h of Lee & Moser (2015): the laws' own share
PUBLISHED = {"log_law": (0.2, 0.1, 1.1), "equilibrium_ode": (0.3, 0.4, 1.5), "spalding": (2.1, 0.8, 1.2)}


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("case", [0, 1, 2])
def test_friction_of_published_profiles(name, case):
    re_tau = ("1000", "2000", "5200")[case]
    table = ChannelReference.read(CASES / f"channel{re_tau}" / "reference" / f"channel_leemoser{re_tau}.csv")
    u = torch.tensor([float(table.profile("u_mean", np.array([0.1]))[0])], dtype=torch.float64)
    tau, _ = friction(LAWS[name]().law(), u, 0.0 * u, 0.1 * table.re_tau, 1.0)  # wall units: 1 is right
    assert 100.0 * (float(tau[0]) - 1.0) == pytest.approx(PUBLISHED[name][case], abs=0.1)


def test_reichardt_with_his_constants_is_low():
    """With kappa = 0.41 and his 7.8 by 4.7, 4.2 and 2.7 per cent: the intercept that goes with these is 5.63."""
    intercept = 7.8 + math.log(0.41) / 0.41
    for re_tau, error in (("1000", -4.7), ("2000", -4.2), ("5200", -2.7)):
        table = ChannelReference.read(CASES / f"channel{re_tau}" / "reference" / f"channel_leemoser{re_tau}.csv")
        u = torch.tensor([float(table.profile("u_mean", np.array([0.1]))[0])], dtype=torch.float64)
        tau, _ = friction(lambda re: wall_laws.reichardt(re, 0.41, intercept), u, 0.0 * u, 0.1 * table.re_tau, 1.0)
        assert 100.0 * (float(tau[0]) - 1.0) == pytest.approx(error, abs=0.1)
