"""Advection stepped in a moving frame: what it follows is exact, the order stays, and steps are those of the rest."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from solver import simulation
from solver.errors import CaseError
from solver.flow.flow import Flow
from solver.flow.forcing import MassFlux
from solver.flow.runge_kutta import TimeStep, runge_kutta
from solver.flow.scalars import End, Scalar
from solver.flow.simulation import Simulation
from solver.flow.state import State
from solver.flow.time_step import StepControl
from tests.convergence.test_time import CHANNEL, DUCT, abc, channel_flow, cube, mass_flux
from tests.grids import distance, minus, norm, operators, orders, run, sample, uniform

HEAT = Scalar("heat", 0.7, ends={(1, 0): End(0.4), (1, 1): End(0.0)}, source_per_u=1.0)


def test_a_flow_that_the_frame_follows_is_exact_at_any_step():
    """A decaying Beltrami flow carried by a drift, by steps five times too long for it at rest."""
    op, drift, nu, dt = operators(cube()), 7.0, 0.3, 1.2
    flow = Flow(op, nu, frame=drift)
    moved = Simulation(flow, flow.start(sample(op, abc((drift, 0.0, 0.0)))), StepControl(op, 1.0, dt=dt, frame=drift))
    found = run(moved, 2)
    exact = sample(op, abc((drift, 0.0, 0.0), np.exp(-2 * nu * dt), (2 * drift * dt, 0.0, 0.0)))
    assert distance(found, exact) < 1e-13 * drift


@pytest.mark.parametrize(
    ("grid", "implicit", "order"), [(CHANNEL, False, 2.9), (CHANNEL, True, 1.8), (DUCT, True, 1.8)]
)
def test_the_frame_changes_the_error_of_the_time_step_alone(grid, implicit, order):
    """Velocity, pressure and a scalar tend to those of the frame at rest, with the order of the scheme."""
    op = operators(grid)
    gaps = []
    for steps in (8, 16, 32):
        ends = []
        for frame in (0.0, 0.8):
            flow = Flow(op, 0.01, None, mass_flux(op), implicit=implicit, scalars=[HEAT], frame=frame)
            state = flow.start(channel_flow(op))
            state.scalars["heat"] = 0.5 * state.velocity.coefficients[0]
            moved = Simulation(flow, state, StepControl(op, 1.0, dt=0.8 / steps, implicit=implicit, frame=frame))
            ends.append((run(moved, steps), moved.state.scalars["heat"], moved.pressure()))
        (u, heat, p), (v, other, q) = ends
        size = [norm(op, u), op.inner_product(heat, heat).sqrt(), p.std()]
        apart = [norm(op, minus(u, v)), op.inner_product(heat - other, heat - other).sqrt(), (p - q).std()]
        gaps.append([float(a / s) for a, s in zip(apart, size, strict=True)])
    assert max(gaps[-1][:2]) < 1e-3
    assert all(gap > 1e-9 for gap in gaps[-1])  # it is not the same arithmetic
    velocity, scalar, pressure = (orders(list(column)) for column in zip(*gaps, strict=True))
    assert min(*velocity, *scalar) > order
    assert min(pressure) > 0.9


def test_steps_are_limited_by_the_velocity_that_the_frame_sees():
    op = operators(CHANNEL)
    plug = Flow(op, 0.0).velocity(uniform(op, (1.0, 0.0, 0.0)))
    dt = {frame: float(StepControl(op, 1.0, frame=frame)(plug, None, 0.0)) for frame in (0.0, 0.5, 0.25)}
    assert dt[0.5] == pytest.approx(2 * dt[0.0], rel=1e-12)  # the wall moves as fast as the plug, the other way
    assert dt[0.25] == pytest.approx(dt[0.0] / 0.75, rel=1e-12)


def test_a_frame_needs_modes_along_x():
    with pytest.raises(CaseError, match=r"\[time\] frame: .*\[grid.x\]"):
        simulation("cavity", "time.frame=0.5", "grid.x.n=16", "grid.y.n=16")


@pytest.mark.gradients
def test_gradients_pass():
    """Of the velocity after a step by the size of that before: as by differences."""
    op = operators(CHANNEL)
    flow, start = Flow(op, 0.01, None, MassFlux(op, 1.0), frame=0.6), channel_flow(op)
    dt = TimeStep(torch.tensor(0.05, dtype=torch.float64))

    def size(scale):
        u, v, w = (scale * f for f in start)
        return op.norm(runge_kutta(flow, State(flow.velocity((u, v, w))), dt).velocity.coefficients)

    scale = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(size(scale), scale)
    assert float(slope) == pytest.approx(float(size(1.001) - size(0.999)) / 0.002, rel=1e-4)
