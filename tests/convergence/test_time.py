"""Order in time: third, with projection, forcing and exact decay; energy drifts by the time error alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from solver.flow.forcing import MassFlux, PressureGradient
from solver.flow.held_shells import HeldShells
from solver.grid.axis import FiniteVolumeAxis, FourierAxis, stretched_faces
from solver.grid.grid import Grid
from tests.grids import (
    PERIODIC,
    SLIP,
    distance,
    mean,
    minus,
    norm,
    operators,
    orders,
    project,
    run,
    sample,
    simulation,
    walls,
)

TURN = 2 * np.pi
sin, cos = torch.sin, torch.cos


def taylor_green(op):
    """The three-dimensional vortex of Taylor & Green (1937), projected."""
    flow = (
        lambda x, y, z: sin(x) * cos(y) * cos(z),
        lambda x, y, z: -cos(x) * sin(y) * cos(z),
        lambda x, y, z: 0 * x * y * z,
    )
    return project(op, sample(op, flow))


def channel_flow(op):
    """A profile, a streamwise vortex and an oblique wave between walls at 0 and 2."""
    flow = (
        lambda x, y, z: 1.5 * y * (2 - y) + 0.3 * sin(x) * sin(np.pi * y / 2) * cos(2 * z),
        lambda x, y, z: 0.4 * (y * (2 - y)) ** 2 * cos(2 * z + 0.3) * (1 + 0.5 * cos(x)),
        lambda x, y, z: 0.5 * sin(np.pi * y) * sin(2 * z) * (1 + 0.2 * sin(x)),
    )
    return project(op, sample(op, flow))


def mass_flux(op):
    """The flux of the initial field: third order needs consistent initial data."""
    return MassFlux(op, mean(op, channel_flow(op)[0], 0))


def cube(n: int = 12) -> Grid:
    return Grid(FourierAxis(n, TURN), FourierAxis(n, TURN), FourierAxis(n, TURN))


def swirls(op):
    """Waves in three shells."""
    flow = (
        lambda x, y, z: sin(x) * cos(y) * cos(z) + 0.6 * sin(y + 0.4) + 0.3 * cos(2 * z) + 0 * x,
        lambda x, y, z: -cos(x) * sin(y) * cos(z) + 0.5 * cos(z) + 0.4 * sin(2 * x + z) + 0 * y,
        lambda x, y, z: 0.7 * cos(x + 0.2) + 0.3 * sin(2 * y) + 0 * z,
    )
    return project(op, sample(op, flow))


CHANNEL = Grid(FourierAxis(8, TURN), walls(10), FourierAxis(8, np.pi))
DUCT = Grid(FourierAxis(8, TURN), walls(10), walls(8, np.pi))
FLOWS = {
    "box": (cube(), taylor_green, 0.05, 1.6, None),
    "box_held_shells": (cube(), swirls, 0.05, 0.8, lambda op: HeldShells(op, (0.3, 0.2))),
    "channel_mass_flux": (CHANNEL, channel_flow, 0.01, 0.8, mass_flux),
    "channel_pressure_gradient": (CHANNEL, channel_flow, 0.01, 0.8, lambda op: PressureGradient(op, 0.5)),
    "duct_mass_flux": (DUCT, channel_flow, 0.01, 0.8, mass_flux),
}


@pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS)
def test_runge_kutta_with_projection_is_of_third_order(flow):
    """Differences between runs with dt, dt/2, dt/4, dt/8 at a fixed time."""
    grid, initial, nu, time, forcing = flow
    op = operators(grid)
    ends = [
        run(simulation(op, initial(op), nu, time / steps, forcing and forcing(op)), steps) for steps in (8, 16, 32, 64)
    ]
    moved = norm(op, minus(ends[-1], initial(op)))
    gaps = [norm(op, minus(a, b)) for a, b in pairwise(ends)]
    assert gaps[-1] < 1e-3 * moved
    assert min(orders(gaps)) > 2.9


def abc(drift, decay=1.0, shift=(0.0, 0.0, 0.0)):
    """The Beltrami flow of Arnold, Beltrami & Childress, carried along by `drift`."""
    a, b, c = 0.9, 0.7, 0.5
    dx, dy, dz = shift
    return (
        lambda x, y, z: decay * (a * sin(z - dz) + c * cos(y - dy)) + drift[0] + 0 * x,
        lambda x, y, z: decay * (b * sin(x - dx) + a * cos(z - dz)) + drift[1] + 0 * y,
        lambda x, y, z: decay * (c * sin(y - dy) + b * cos(x - dx)) + drift[2] + 0 * z,
    )


def abc_error(drift, steps: int) -> float:
    """Largest error at t = 1, nu = 0.3."""
    op = operators(cube(9))
    end = run(simulation(op, sample(op, abc(drift)), 0.3, 1.0 / steps), steps)
    return distance(end, sample(op, abc(drift, np.exp(-0.3), drift)))


def test_a_beltrami_flow_decays_exactly():
    """Convection is a gradient and viscosity is integrated exactly: round-off at any dt."""
    assert abc_error((0.0, 0.0, 0.0), steps=3) < 1e-14


def test_a_drifting_beltrami_flow_against_its_exact_solution():
    errors = [abc_error((0.8, -0.5, 0.3), steps) for steps in (8, 16, 32)]
    assert min(orders(errors)) > 2.9


def smooth_ring(n: int) -> FiniteVolumeAxis:
    """Periodic cells of (0, 2 pi) whose height varies smoothly, symmetric like the vortex."""
    xi = np.linspace(0.0, 1.0, n + 1)
    return FiniteVolumeAxis(TURN * (xi + 0.05 * np.sin(2 * TURN * xi)), PERIODIC, PERIODIC)


def slippery(n: int) -> FiniteVolumeAxis:
    return FiniteVolumeAxis(stretched_faces(n, 0.0, np.pi, 1.2), SLIP, SLIP)


INVISCID = {
    "box": cube(),
    "channel": Grid(FourierAxis(10, TURN), slippery(8), FourierAxis(9, TURN)),
    "duct": Grid(FourierAxis(10, TURN), slippery(8), smooth_ring(12)),
    "cells": Grid(slippery(7), slippery(8), smooth_ring(12)),
}


@pytest.mark.parametrize("grid", INVISCID.values(), ids=INVISCID)
def test_inviscid_energy_drifts_by_the_time_error_alone(grid):
    """Without viscosity the Taylor-Green vortex loses energy as dt^3, on stretched cells as in the box."""
    op, time = operators(grid), 2.0
    energy = norm(op, taylor_green(op)) ** 2
    drifts = []
    for steps in (10, 20, 40):
        end = run(simulation(op, taylor_green(op), 0.0, time / steps), steps)
        drifts.append(abs(norm(op, end) ** 2 / energy - 1))
    assert norm(op, minus(end, taylor_green(op))) > 0.3 * energy**0.5
    assert drifts[-1] < 1e-4
    assert min(orders(drifts)) > 2.8
