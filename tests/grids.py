"""Small grids of every kind, random fields, and discrete integrals independent of the solver's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import numpy as np
import torch
from mpi4py import MPI
from torch import Tensor

from solver.discretisation.calculus import Components, Operators
from solver.discretisation.fft import Wanted
from solver.discretisation.gradient import VelocityGradient
from solver.discretisation.velocity import Velocity
from solver.flow.flow import Flow
from solver.flow.forcing import Forcing
from solver.flow.momentum import Momentum
from solver.flow.simulation import Simulation
from solver.flow.time_step import StepControl
from solver.grid.axis import Boundary, FiniteVolumeAxis, FourierAxis, FreeSlip, NoSlip, Periodic, stretched_faces
from solver.grid.grid import Grid
from solver.parallel.slabs import Slabs
from solver.pressure.direct import DirectPressure

CPU = torch.device("cpu")
WALL, SLIP, PERIODIC = NoSlip(), FreeSlip(), Periodic()


def walls(n: int, length: float = 2.0, lower: Boundary = WALL, upper: Boundary = WALL, stretching: float = 1.7):
    """Cells clustered at both ends of (0, length)."""
    return FiniteVolumeAxis(stretched_faces(n, 0.0, length, stretching), lower, upper)


def uneven(n: int, length: float) -> FiniteVolumeAxis:
    """Periodic cells whose heights jump at random by up to 60 %."""
    width = 1.0 + 0.6 * np.random.default_rng(739_111 + n).random(n)
    faces = np.concatenate([[0.0], np.cumsum(width)])
    return FiniteVolumeAxis(faces * (length / faces[-1]), PERIODIC, PERIODIC)


GRIDS: dict[str, Grid] = {
    "box": Grid(FourierAxis(15, 6.0, "2/3"), FourierAxis(13, 5.0), FourierAxis(11, 4.0, "2/3")),
    "box_even": Grid(FourierAxis(8, 6.0), FourierAxis(12, 5.0, "2/3"), FourierAxis(10, 4.0)),
    "channel": Grid(FourierAxis(13, 6.0), walls(11), FourierAxis(15, 3.0, "2/3")),
    "channel_even": Grid(FourierAxis(16, 6.0, "2/3"), walls(12), FourierAxis(8, 3.0)),
    "half_channel": Grid(FourierAxis(8, 6.0), walls(9, upper=SLIP), FourierAxis(7, 3.0)),
    "free_slip": Grid(FourierAxis(9, 6.0), walls(10, lower=SLIP, upper=SLIP), FourierAxis(10, 3.0)),
    "periodic": Grid(FourierAxis(11, 6.0), uneven(9, 2.0), FourierAxis(8, 3.0)),
    "duct": Grid(FourierAxis(12, 6.0), walls(11), walls(9, 1.5)),
    "duct_periodic": Grid(FourierAxis(7, 6.0, "2/3"), uneven(8, 2.0), uneven(9, 1.5)),
    "cavity": Grid(walls(7, 1.0), walls(11), walls(5, 1.5)),
    "cavity_slip": Grid(walls(6, 1.0, SLIP, SLIP), walls(8, lower=WALL, upper=SLIP), uneven(5, 1.5)),
    "slit": Grid(walls(9, 1.0), walls(11), FourierAxis(1, 1.0)),
    "periodic_cells": Grid(uneven(7, 1.0), uneven(9, 2.0), uneven(6, 1.5)),
    "column": Grid(FourierAxis(1, 1.0), walls(10), FourierAxis(1, 1.0)),
}
PERIODIC_GRIDS = [name for name, grid in GRIDS.items() if all(axis.periodic for axis in grid.axes)]
FLOWING_GRIDS = [name for name in GRIDS if name != "column"]  # a column admits no convection


def shearless(grid: Grid) -> bool:
    """No wall holds the fluid."""
    ends = [end for axis in grid.axes if not axis.is_fourier for end in (axis.lower, axis.upper)]
    return not any(isinstance(end, NoSlip) for end in ends)


def operators(
    grid: Grid | str, dtype: torch.dtype = torch.float64, comm: MPI.Intracomm | None = None, engine: Wanted = "auto"
) -> Operators:
    """The discrete calculus of a grid on a communicator, the world by default."""
    grid = GRIDS[grid] if isinstance(grid, str) else grid
    half_in_z = grid.z.is_fourier
    modes_x = grid.x.points
    if grid.x.is_fourier:
        modes_x = (2 * grid.x.highest_mode if half_in_z else grid.x.highest_mode) + 1
    return Operators(grid, Slabs(grid.y.points, modes_x, grid.y.periodic, comm), CPU, dtype, engine=engine)


def random_values(op: Operators, seed: int, count: int) -> list[Tensor]:
    """Physical noise drawn over the global grid, y slowest in memory like every field."""
    nx, ny, nz = op.grid.shape
    noise = np.random.default_rng(seed).standard_normal((count, ny, nx, nz))[:, op.decomposition.planes]
    return [op.tensor(f).transpose(0, 1) for f in noise]


def random_scalar(op: Operators, seed: int) -> Tensor:
    """Coefficients of noise in all retained modes."""
    return op.to_coefficients(random_values(op, seed, 1)[0])


def random_components(op: Operators, seed: int) -> Components:
    """Three coefficient fields of noise that respect the walls and nothing else."""
    u, v, w = impermeable(op, [op.to_coefficients(f) for f in random_values(op, seed, 3)])
    return u, v, w


def impermeable(op: Operators, components: Iterable[Tensor]) -> Components:
    """Components with the normal one zero on walls."""
    masks = Momentum(VelocityGradient(op), 0.0).interior
    u, v, w = (f if mask is None else f * mask for f, mask in zip(components, masks, strict=True))
    return u, v, w


def project(op: Operators, velocity: Components) -> Components:
    """The divergence-free part by the direct solver."""
    return op.subtract_gradient(velocity, DirectPressure(op).solve(op.divergence(velocity)))


def random_velocity(op: Operators, seed: int) -> Components:
    """Divergence-free noise of order one."""
    return project(op, random_components(op, seed))


def sample(op: Operators, functions: Sequence[Callable]) -> Components:
    """Coefficients of smooth ``f(x, y, z)``, each component taken where it lives."""
    return impermeable(op, [op.to_coefficients(values(op, f, i)) for i, f in enumerate(functions)])


def values(op: Operators, function: Callable, component: int | None = None) -> Tensor:
    """``function(x, y, z)`` on this rank, at centres or where `component` lives."""
    lines = []
    for axis, line in enumerate(op.grid.axes):
        staggered = axis == component and not line.is_fourier
        lines.append(op.along(op.local(line.faces[1:] if staggered else line.centres, axis), axis))
    f = torch.as_tensor(function(*lines), dtype=op.dtype)
    return f.expand(op.local_shape).transpose(0, 1).contiguous().transpose(0, 1)


def volumes(op: Operators, component: int | None) -> Tensor:
    """Control volumes of a component (of centres for None), as shares of the domain."""
    product = torch.ones((1, 1, 1), dtype=op.dtype)
    for axis, line in enumerate(op.grid.axes):
        size = np.diff(line.faces) if axis in op.volume_axes else line.width
        if axis == component and axis in op.volume_axes:
            size = 0.5 * (size + np.roll(size, -1))  # the last entry is void where it is a wall
        product = product * op.along(op.local(size / line.length, axis), axis)
    return product


def scalar_product(op: Operators, a: Tensor, b: Tensor, component: int | None = None) -> float:
    """Mean of a product, summed in physical space (exact: points exceed 3 highest modes)."""
    return float((op.to_physical(a) * op.to_physical(b) * volumes(op, component)).sum())


def product(op: Operators, a: Components, b: Components) -> float:
    """Mean scalar product over staggered volumes; twice the kinetic energy for a = b."""
    return sum(scalar_product(op, f, g, i) for i, (f, g) in enumerate(zip(a, b, strict=True)))


def norm(op: Operators, a: Components) -> float:
    """Root mean square of a vector field."""
    return product(op, a, a) ** 0.5


def distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """Largest difference of any entry."""
    return max(float((f - g).abs().max()) for f, g in zip(a, b, strict=True))


def minus(a: Components, b: Components) -> Components:
    """Difference of two vector fields."""
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def tendency(op: Operators, velocity: Components, nu: float = 0.0, term: object = None) -> Components:
    """``du/dt`` without pressure."""
    strain = VelocityGradient(op)
    return Momentum(strain, nu).tendency(Velocity(strain, velocity), term)


def simulation(
    op: Operators,
    velocity: Components,
    nu: float,
    dt: float | None,
    forcing: Forcing | None = None,
    closure: object = None,
    momentum: Momentum | None = None,
    implicit: bool = False,
) -> Simulation:
    """A flow with a fixed step, or cfl = 1."""
    return moving(Flow(op, nu, closure, forcing, momentum, implicit=implicit), velocity, dt)


def moving(flow: Flow, velocity: Components, dt: float | None = None) -> Simulation:
    """A flow from a velocity on, with a fixed step, or cfl = 1."""
    control = StepControl(flow.operators, cfl=1.0, dt=dt, implicit=flow.implicit is not None)
    return Simulation(flow, flow.start(velocity), control)


def recorded(flow: Simulation, steps: int) -> Components:
    """Velocity coefficients after some steps that record gradients; the flow stays where it is."""
    state = flow.state
    for _ in range(steps):
        state = flow.stepper(state)
    return state.velocity.coefficients


def run(flow: Simulation, steps: int) -> Components:
    """Velocity coefficients after some steps."""
    for _ in range(steps):
        flow.step()
    return flow.velocity.coefficients


def orders(errors: Sequence[float], ratio: float = 2.0) -> list[float]:
    """Observed orders of convergence between successive refinements by `ratio`."""
    return [float(np.log(coarse / fine) / np.log(ratio)) for coarse, fine in pairwise(errors)]


def uniform(op: Operators, velocity: Sequence[float]) -> Components:
    """Coefficients of a uniform velocity, walls ignored."""
    ones = torch.ones(op.local_shape, dtype=op.dtype)
    u, v, w = (op.to_coefficients(speed * ones) for speed in velocity)
    return u, v, w


def mean(op: Operators, f: Tensor, component: int | None = None) -> float:
    """Volume mean of a field or component."""
    return float((op.to_physical(f) * volumes(op, component)).sum())
