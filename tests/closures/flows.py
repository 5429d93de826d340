"""Small grids of every kind, and velocities on them, for the closure tests; not a test itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mpi4py import MPI

from solver.axis import FiniteVolumeAxis, FourierAxis, NoSlip, stretched_faces
from solver.grid import Grid
from solver.operators import Operators
from solver.parallel import Decomposition
from solver.pressure.direct import DirectPressure
from solver.strain import Strain
from solver.velocity import Velocity

KINDS = ["channel", "box", "duct", "cavity"]
NU = 1e-3


def make_grid(kind, wall_velocity=(0.0, 0.0, 0.0)):
    """A grid of a few cells; the box and the cavity are cubes, so that axes can be exchanged."""
    wall = NoSlip(wall_velocity)

    def walled(n, length):
        return FiniteVolumeAxis(stretched_faces(n, 0.0, length, 1.5), wall, wall)

    if kind == "channel":
        return Grid(FourierAxis(10, 6.0), walled(12, 2.0), FourierAxis(13, 3.0, "2/3"))
    if kind == "duct":
        return Grid(FourierAxis(10, 6.0), walled(11, 2.0), walled(8, 1.5))
    if kind == "cavity":
        return Grid(walled(9, 1.0), walled(9, 1.0), walled(9, 1.0))
    return Grid(FourierAxis(9, 5.0), FourierAxis(9, 5.0), FourierAxis(9, 5.0))


def make_operators(grid, comm=MPI.COMM_SELF):
    """The calculus in float64 on CPU."""
    x_modes = grid.x.points
    if grid.x.is_fourier:
        x_modes = 2 * grid.x.highest_mode + 1 if grid.z.is_fourier else grid.x.highest_mode + 1
    decomposition = Decomposition(grid.y.points, x_modes, grid.y.periodic, comm)
    return Operators(grid, decomposition, torch.device("cpu"), torch.float64)


def random_fields(grid, seed=7):
    """Three global arrays of noise, zero at the upper walls of their own axis."""
    fields = list(np.random.default_rng(seed).standard_normal((3, *grid.shape)))
    for d, axis in enumerate(grid.axes):
        if not axis.is_fourier:
            np.moveaxis(fields[d], d, 0)[-1] = 0.0
    return fields


def make_velocity(operators, fields, project=True):
    """The divergence-free velocity nearest to global arrays of values where the components live."""
    slab = [torch.from_numpy(np.ascontiguousarray(f[:, operators.decomposition.planes].swapaxes(0, 1))) for f in fields]
    u = tuple(operators.to_coefficients(f.transpose(0, 1)) for f in slab)
    if project:
        u = operators.subtract_gradient(u, DirectPressure(operators).solve(operators.divergence(u)))
    return Velocity(Strain(operators), u)


def viscosity(closure, velocity):
    """nu_t of the first call."""
    return closure(velocity, 0.0, closure.init(velocity.operators))[0].nu_t


def reflect_scalar(f, axis, line):
    """A centred field seen in a mirror."""
    mirrored = np.flip(f, axis)
    return np.roll(mirrored, 1, axis) if line.is_fourier else mirrored


def reflect(fields, axis, line):
    """A staggered velocity seen in a mirror normal to `axis`."""
    mirrored = [reflect_scalar(f, axis, line) for f in fields]
    if not line.is_fourier:  # faces 1 .. n: n is the wall and stays, the others swap ends
        mirrored[axis] = np.roll(mirrored[axis], -1, axis)
    mirrored[axis] = -mirrored[axis]
    return mirrored


def exchange(fields, a, b):
    """A velocity with two axes exchanged."""
    swapped = [f.swapaxes(a, b) for f in fields]
    swapped[a], swapped[b] = swapped[b], swapped[a]
    return swapped


def uniform(kind):
    """A velocity that the walls of this kind of grid allow everywhere."""
    allowed = {"box": (1.3, -0.7, 0.4), "channel": (1.3, 0.0, 0.4), "duct": (1.3, 0.0, 0.0)}
    return allowed.get(kind, (0.0, 0.0, 0.0))


def moved(fields, velocity):
    """The fields as an observer sees them who moves against `velocity`."""
    return [f + u for f, u in zip(fields, velocity, strict=True)]


def assert_same(a, b, tolerance=1e-10):
    """Two arrays agree to a share of the greatest value, which is not zero."""
    assert np.abs(a).max() > 0
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(a).max())


def assert_slope(functional, rel):
    """What autograd says of a function of one number, at zero, is what central differences say."""
    with torch.enable_grad():
        step = torch.zeros((), dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(functional(step), step)
    h = 1e-6
    assert float(slope) == pytest.approx(float(functional(h) - functional(-h)) / (2 * h), rel=rel)
