"""The constant that made a sequence is found again."""

from __future__ import annotations

import pytest
import torch

from closures.registry.registry import create
from solver.errors import CaseError
from tests.bench_pages import load
from tests.losses.flows import NU, flow, residual_of, trajectory

coefficient = load("coefficient")
LearnedCoefficient, fit_coefficient = coefficient.LearnedCoefficient, coefficient.fit_coefficient

STEP = 0.02


@pytest.mark.parametrize(
    ("kind", "n", "closure", "constant", "true", "start"),
    [
        ("box", 16, "smagorinsky", "c_s", 0.17, 0.08),
        ("box", 8, "wale", "c_w", 0.4, 0.8),
        ("channel", 8, "smagorinsky", "c_s", 0.1, 0.25),
        ("duct", 8, "vreman", "c", 0.07, 0.02),
    ],
)
@pytest.mark.parametrize("scheme", ["runge_kutta", "midpoint"])
def test_recovers_the_constant_of_our_own_sequence(kind, n, closure, constant, true, start, scheme):
    frames = trajectory(flow(kind, STEP, n=n, closure=closure, **{constant: true}), 3)
    other = flow(kind, STEP, n=n, closure=closure, **{constant: start})
    other.closure = other.flow.closure = LearnedCoefficient(other.closure)
    found = fit_coefficient(residual_of(other, scheme), frames, iterations=8)
    assert found == pytest.approx(true, rel=1e-4 if scheme == "runge_kutta" else 0.02)


def test_gradient_is_that_of_differences():
    simulation = flow("channel", STEP, c_s=0.2)
    frames = trajectory(simulation, 3)
    other = flow("channel", STEP, c_s=0.1)
    learned = other.closure = other.flow.closure = LearnedCoefficient(other.closure)
    residual = residual_of(other)
    (slope,) = torch.autograd.grad(residual.dimensional(frames), [learned.logarithm])
    step = 1e-5
    sides = [float(residual_of(flow("channel", STEP, c_s=0.1 * (1 + s))).dimensional(frames)) for s in (step, -step)]
    assert float(slope) == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=1e-5)


def test_leaves_the_closure_it_was_given_alone():
    closure = flow("box", STEP).closure
    before = closure.c_s
    learned = LearnedCoefficient(closure)
    with torch.no_grad():
        learned.logarithm += 1.0
    simulation = flow("box", STEP)
    learned(simulation.velocity, 0.0, {})
    assert closure.c_s == before
    assert float(learned.value.detach()) == pytest.approx(before * torch.e)


def test_what_cannot_be_learned_is_named():
    grid = flow("channel", STEP).operators.grid
    with pytest.raises(CaseError, match="'dynamic_smagorinsky' has no constant to learn: use one of smagorinsky, wale"):
        LearnedCoefficient(create("dynamic_smagorinsky", grid=grid, nu=NU["channel"]))
    with pytest.raises(CaseError, match=r"c_s = 0: a constant that is learned starts above 0"):
        LearnedCoefficient(create("smagorinsky", grid=grid, nu=NU["channel"], options={"c_s": 0.0}))
    simulation = flow("channel", STEP)
    with pytest.raises(CaseError, match="wrap it in LearnedCoefficient"):
        fit_coefficient(residual_of(simulation), trajectory(simulation, 2))
