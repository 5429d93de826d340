"""Small boxes with bodies in them, and the flows around these."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from solver.case.solid_tables import PressureTable
from solver.discretisation.calculus import Components
from solver.flow.around_solids import flow_around
from solver.flow.flow import Flow
from solver.flow.forcing import Forcing
from solver.flow.momentum import Momentum
from solver.flow.projection import Projection
from solver.flow.simulation import Simulation
from solver.grid.axis import FiniteVolumeAxis, FourierAxis, FreeSlip, Inflow, NoSlip, Outflow, Periodic
from solver.grid.grid import Grid
from solver.solids.mask import Solids
from solver.solids.shapes import Box, Cylinder, Shape, Sphere
from tests.grids import moving, operators, random_components, uneven, walls

SEED = 577_215
WALL, SLIP, PERIODIC = NoSlip(), FreeSlip(), Periodic()
STREAM = Inflow((1.0, 0.0, 0.0))
EXACT = PressureTable(tolerance=1e-12)
PLANE = FourierAxis(1, 1.0)


def cells(n: int, length: float = 1.0, lower=PERIODIC, upper=None) -> FiniteVolumeAxis:
    """Equal cells."""
    return FiniteVolumeAxis(np.linspace(0.0, length, n + 1), lower, lower if upper is None else upper)


def jumps(n: int, length: float, lower, upper) -> FiniteVolumeAxis:
    """Cells that jump in size, between two ends."""
    return FiniteVolumeAxis(uneven(n, length).faces, lower, upper)


BALL = Sphere((0.5, 0.47, 0.5), 0.22)
POST = Box((0.78, -1.0, 0.2), (0.98, 0.5, 0.6))  # stands on the floor
SEAM = Sphere((0.02, 0.5, 0.97), 0.25)  # in two periods at once

CLOSED: dict[str, tuple[Grid, Sequence[Shape]]] = {
    "periodic": (Grid(uneven(9, 1.0), uneven(8, 1.0), uneven(7, 1.0)), [BALL]),
    "seam": (Grid(uneven(8, 1.0), uneven(9, 1.0), uneven(8, 1.0)), [SEAM]),
    "channel": (Grid(uneven(9, 1.0), walls(8, 1.0), uneven(7, 1.0)), [BALL, POST]),
    "cavity": (Grid(walls(9, 1.0), walls(8, 1.0, upper=SLIP), walls(7, 1.0)), [BALL, POST]),
    "plane": (Grid(uneven(12, 1.0), walls(11, 1.0), PLANE), [Cylinder((0.5, 0.45, 0.0), 0.2)]),
}
OPEN: dict[str, tuple[Grid, Sequence[Shape]]] = {
    "plane": (
        Grid(jumps(14, 2.0, STREAM, Outflow()), cells(10, 1.0, SLIP), PLANE),
        [Cylinder((0.6, 0.47, 0.0), 0.2)],
    ),
    "space": (
        Grid(jumps(12, 2.0, Inflow((1.0, 0.1, -0.2), "parabolic"), Outflow()), walls(8, 1.0), uneven(6, 1.0)),
        [Sphere((0.7, 0.45, 0.5), 0.25), Box((1.5, -1.0, 0.1), (3.0, 0.3, 0.5))],  # the box reaches the outflow
    ),
    "step": (
        Grid(cells(12, 2.0, STREAM, Outflow()), cells(9, 1.0, SLIP, WALL), cells(4, 1.0, SLIP)),
        [Box((-1.0, -1.0, -1.0), (0.6, 0.4, 2.0))],  # closes part of the inflow
    ),
}


def around(
    grid: Grid, shapes: Sequence[Shape], nu: float, table: PressureTable = EXACT, dtype: torch.dtype = torch.float64
) -> tuple[Momentum, Projection]:
    """Momentum and projection of a flow around bodies."""
    return flow_around(operators(grid, dtype), nu, Solids.from_shapes(grid, shapes), table)


def random_flow(projection: Projection, seed: int = SEED) -> Components:
    """Divergence-free noise of order one around the bodies."""
    return projection(projection(random_components(projection.operators, seed)).velocity).velocity


def simulation(
    momentum: Momentum,
    projection: Projection,
    velocity: Components,
    dt: float | None,
    forcing: Forcing | None = None,
    closure: object = None,
) -> Simulation:
    """A flow with a fixed step, or cfl = 1."""
    return moving(Flow(momentum.operators, momentum.nu, closure, forcing, momentum, projection), velocity, dt)


def taken(flow: Simulation) -> np.ndarray:
    """The impulse on the solids in the last step, of all ranks."""
    return flow.operators.decomposition.sum(flow.state.impulse).numpy()
