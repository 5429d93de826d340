"""What hypothesis draws: axes, grids and voxel bodies of every kind, small enough that thousands take a minute."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from solver.grid.axis import (
    Boundary,
    FiniteVolumeAxis,
    FourierAxis,
    FreeSlip,
    Inflow,
    NoSlip,
    Outflow,
    Periodic,
    stretched_faces,
)
from solver.grid.grid import Grid
from solver.solids.mask import Solids

CELLS = st.integers(2, 9)
UNITS = st.sampled_from([1e-3, 1.0, 2 * np.pi, 1e4])  # of length: one a grid
SIDES = st.sampled_from([0.1, 1.0, 2.0, 7.0, 60.0])  # in these units
COMPACT = st.sampled_from([0.5, 1.0, 2.0, 7.0])  # around bodies: single-precision cycles say no to cells 300 : 1
SEEDS = st.integers(0, 2**32 - 1)
SPEEDS = st.sampled_from([(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (-0.3, 0.0, 0.5)])
WALLS = st.one_of(st.builds(NoSlip, SPEEDS), st.just(FreeSlip()))
RESTING = st.sampled_from([NoSlip(), FreeSlip()])  # ends across which the calculus is linear


@st.composite
def uneven_faces(draw, n: int, length: float) -> np.ndarray:
    """Faces of `n` cells whose sizes differ by up to a factor of four."""
    sizes = draw(st.lists(st.floats(0.25, 1.0), min_size=n, max_size=n))
    faces = np.concatenate([[0.0], np.cumsum(sizes)]) * (length / np.sum(sizes))
    faces[-1] = length
    return faces


@st.composite
def volume_axes(draw, unit: float, ends=RESTING, periodic: bool | None = None, sides=SIDES) -> FiniteVolumeAxis:
    """Equal, stretched or uneven cells, between walls or periodic."""
    n, length = draw(CELLS), unit * draw(sides)
    kind = draw(st.sampled_from(["equal", "stretched", "uneven"]))
    if kind == "uneven":
        faces = draw(uneven_faces(n, length))
    else:
        faces = stretched_faces(n, 0.0, length, draw(st.floats(0.1, 3.0)) if kind == "stretched" else 0.0)
    if draw(st.booleans()) if periodic is None else periodic:
        return FiniteVolumeAxis(faces, Periodic(), Periodic())
    lower: Boundary = draw(ends)
    return FiniteVolumeAxis(faces, lower, draw(ends))


@st.composite
def fourier_axes(draw, unit: float) -> FourierAxis:
    """One to nine points, either rule of dealiasing."""
    return FourierAxis(draw(st.integers(1, 9)), unit * draw(SIDES), draw(st.sampled_from(["3/2", "2/3"])))


@st.composite
def cell_grids(draw, ends=RESTING, unit: float | None = None) -> Grid:
    """Cells in every direction; z may be a single Fourier point (a plane flow)."""
    unit = unit or draw(UNITS)
    cells = volume_axes(unit, ends, sides=COMPACT)
    z = FourierAxis(1, unit) if draw(st.integers(0, 3)) == 0 else draw(cells)
    return Grid(draw(cells), draw(cells), z)


@st.composite
def grids(draw, ends=RESTING) -> Grid:
    """Boxes, channels, ducts, cavities."""
    unit = draw(UNITS)
    modes, cells = fourier_axes(unit), volume_axes(unit, ends)
    match draw(st.sampled_from(["box", "channel", "duct", "cells"])):
        case "box":
            return Grid(draw(modes), draw(modes), draw(modes))
        case "channel":
            return Grid(draw(modes), draw(cells), draw(modes))
        case "duct":
            return Grid(draw(modes), draw(cells), draw(cells))
    return draw(cell_grids(ends, unit))


@st.composite
def streams(draw) -> Grid:
    """Cells with fluid entering at the lower end of x and leaving at the upper one."""
    unit = draw(UNITS)
    inner, cells = draw(volume_axes(unit, periodic=False, sides=COMPACT)), volume_axes(unit, sides=COMPACT)
    profile = draw(st.sampled_from(["uniform", "parabolic"]))
    x = FiniteVolumeAxis(inner.faces, Inflow((1.0, 0.1, -0.2), profile), Outflow())
    return Grid(x, draw(cells), draw(cells))


@st.composite
def bodies(draw, grid: Grid) -> Solids:
    """Cells drawn at random: any share of solid, enclosed fluid, touching edges, single fluid cells."""
    share, seed = draw(st.floats(0.0, 0.8)), draw(SEEDS)
    solid = np.random.default_rng(seed).random(grid.shape) < share
    solid.flat[draw(st.integers(0, solid.size - 1))] = False  # some fluid is left
    return Solids(grid, solid)
