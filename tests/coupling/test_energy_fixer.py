"""Planes that may gain or lose energy no faster than the data, in an update: in training as in the loop."""

from __future__ import annotations

import pytest
import torch

from closures.coupling.frames import Trajectory
from closures.coupling.guard import Guard, GuardTable
from closures.coupling.guarded_update import GuardedUpdate
from closures.coupling.resample import network_grid
from closures.operators.energy_fixer import plane_energies
from closures.operators.predictor import Predictor
from solver.flow.forcing import bulk_velocity
from tests.coupling.flows import SCALING, channel, small
from tests.coupling.flows import flow as small_flow

LIMIT = 1.02


@pytest.fixture(scope="module")
def simulation():
    with torch.no_grad():
        found = small_flow(channel(), None)
        for _ in range(5):
            found.step()
    return found


def trajectory(simulation, limit):
    units = SCALING.model_copy(update={"change": (0.2, 0.1, 0.1), "limits": ((0.5, limit),) if limit else ()})
    return Trajectory(Predictor(small("fno", scale=0.5).double(), units), simulation)


def factors(simulation, made, after):
    """By which the energy of each plane has changed, and back."""
    old, new = (
        plane_energies(made.centred(u)[None], made.domain)[0] for u in (simulation.velocity.coefficients, after)
    )
    return torch.maximum(new / old, old / new)


@torch.no_grad()
def test_within_the_limits_it_is_the_update_without(simulation):
    u = simulation.velocity.coefficients
    free, held = (trajectory(simulation, limit).after(u) for limit in (0.0, 1e6))
    for a, b in zip(free, held, strict=True):
        torch.testing.assert_close(b, a, rtol=0, atol=1e-13)


@torch.no_grad()
def test_beyond_them_every_plane_is_brought_back(simulation):
    """But for what the second projection takes back, a quarter of a large excess; mass and volume are kept."""
    u, op = simulation.velocity.coefficients, simulation.operators
    free, held = trajectory(simulation, 0.0), trajectory(simulation, LIMIT)
    before, after = free.after(u), held.after(u)
    far = factors(simulation, free, before).max() - LIMIT
    assert far > 0.05
    assert factors(simulation, held, after).max() - LIMIT < 0.3 * far
    assert float(op.to_physical(op.divergence(after)).abs().max()) < 1e-12
    assert float(bulk_velocity(op, after[0])) == pytest.approx(float(bulk_velocity(op, u[0])), rel=1e-12)


def test_runs_have_what_training_has(simulation):
    """Under a guard, the same velocity; and its gradient is the slope of a difference."""
    made = trajectory(simulation, LIMIT)
    guard = Guard(GuardTable(size=1e3, growth=1e3), "fixed", "nothing")
    grid = network_grid(simulation.operators.grid)
    field = GuardedUpdate(made.predictor, grid, guard, precision="float64")
    with torch.no_grad():
        expected = made.after(simulation.velocity.coefficients)
        found = field(simulation.velocity, simulation.flow.solenoidal)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-13)

    weight = next(iter(made.predictor.network.parameters()))

    def total():
        return sum((c * c).sum() for c in made.after(simulation.velocity.coefficients))

    with torch.enable_grad():
        weight.requires_grad_()
        (slope,) = torch.autograd.grad(total(), weight)
    place, h = slope.abs().argmax(), 1e-6
    ends = []
    with torch.no_grad():
        for shift in (h, -2 * h):
            weight.view(-1)[place] += shift
            ends.append(float(total()))
    assert float(slope.view(-1)[place]) == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-4)
