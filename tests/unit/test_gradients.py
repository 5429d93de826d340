"""The step is differentiable: autograd through it agrees with finite differences, and recording changes no number."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from solver.flow.closure import EddyViscosity, SubgridForce, SubgridStress
from solver.flow.forcing import MassFlux, PressureGradient
from solver.flow.held_shells import HeldShells
from solver.grid.axis import FourierAxis
from solver.grid.grid import Grid
from tests.grids import distance, mean, operators, random_values, random_velocity, recorded, run, simulation, walls

SEED = 299_792
RING = FourierAxis(6, 2 * np.pi)
NU, DT, STEPS = 0.05, 0.01, 3
BOX, CHANNEL = Grid(RING, FourierAxis(5, 2 * np.pi, "2/3"), RING), Grid(RING, walls(6), FourierAxis(5, 3.0))
CASES = {
    "box": (BOX, None),
    "box_held": (BOX, lambda op, u: HeldShells(op, (0.2,))),
    "channel": (CHANNEL, lambda op, u: PressureGradient(op, 0.3)),
    "channel_mass_flux": (CHANNEL, lambda op, u: MassFlux(op, mean(op, u[0], 0))),
    "duct": (Grid(RING, walls(5), walls(4)), None),
    "cavity": (Grid(walls(4), walls(5), walls(3)), None),
}


class Learned:
    """A closure of one parameter: `kind` of term from fields that depend on the velocity and the parameter."""

    name, reach = "learned", 0

    def __init__(self, kind: str, parameter: torch.Tensor) -> None:
        self.kind, self.parameter = kind, parameter

    def init(self, op):
        return {}

    def __call__(self, velocity, t, state):
        g, (u, v, w) = velocity.gradient, velocity.centred
        if self.kind == "viscosity":
            return EddyViscosity(self.parameter * 0.1 * sum(d**2 for row in g for d in row).add(1e-3).sqrt()), state
        if self.kind == "stress":
            s = self.parameter * 0.1
            return SubgridStress((s * u * u, s * v * v, s * w * w, s * u * v, s * u * w, s * v * w)), state
        return SubgridForce((-self.parameter * u, -self.parameter * v, -self.parameter * w)), state


def end(grid, forcing, amount, closure=None):
    """Velocity after three steps from a field whose shape depends on `amount`."""
    op = operators(grid)
    base, other = random_velocity(op, SEED), random_velocity(op, SEED + 1)
    start = tuple(a + (amount - 1.0) * b for a, b in zip(base, other, strict=True))
    flow = simulation(op, start, NU, DT, forcing and forcing(op, base), closure)
    return op, recorded(flow, STEPS)


def loss(op, velocity) -> torch.Tensor:
    """A smooth scalar of the final field, without symmetries."""
    weights = random_values(op, SEED + 2, 3)
    return sum(
        (op.to_physical(f) * w).sum() + op.to_physical(f).pow(2).sum() for f, w in zip(velocity, weights, strict=True)
    )


def check(value, rel: float = 1e-6) -> None:
    """Autograd at 1 against a fourth-order finite difference without gradients."""
    at = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(value(at), at)
    with torch.no_grad():
        h = 1e-3
        f = [float(value(torch.tensor(1.0 + s * h, dtype=torch.float64))) for s in (-2, -1, 1, 2)]
    assert float(slope) == pytest.approx((f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * h), rel=rel)


@pytest.mark.gradients
@pytest.mark.parametrize(("grid", "forcing"), CASES.values(), ids=CASES)
def test_gradient_with_respect_to_the_initial_field(grid, forcing):
    check(lambda amount: loss(*end(grid, forcing, amount)))


@pytest.mark.gradients
@pytest.mark.parametrize("kind", ["viscosity", "stress", "force"])
@pytest.mark.parametrize("name", ["box", "channel_mass_flux"])
def test_gradient_with_respect_to_a_closure(name, kind):
    grid, forcing = CASES[name]
    check(lambda parameter: loss(*end(grid, forcing, 1.0, Learned(kind, parameter))))


@pytest.mark.gradients
@pytest.mark.parametrize(("grid", "forcing"), CASES.values(), ids=CASES)
def test_recording_gradients_changes_no_number(grid, forcing):
    amount = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    _, recorded = end(grid, forcing, amount)
    with torch.no_grad():
        _, plain = end(grid, forcing, amount)
    assert all(f.requires_grad for f in recorded)
    assert not any(f.requires_grad for f in plain)
    assert distance([f.detach() for f in recorded], plain) < 1e-14


@pytest.mark.gradients
def test_a_simulation_records_nothing():
    """Whoever writes a loop in Python with a network in it would otherwise keep every step for ever."""
    weight = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    op = operators(BOX)
    flow = simulation(op, random_velocity(op, SEED), NU, DT, closure=Learned("viscosity", weight))
    run(flow, 2)
    term = flow.present_term()
    assert torch.is_grad_enabled()
    assert not flow.velocity.coefficients[0].requires_grad
    assert not term.nu_t.requires_grad
    assert flow.stepper(flow.state).velocity.coefficients[0].requires_grad  # who steps by hand records
