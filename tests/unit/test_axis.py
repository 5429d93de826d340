"""Axes and grids: how many modes and points, where faces lie, what is refused at the door."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import eigh

from solver.errors import CaseError
from solver.grid.axis import FiniteVolumeAxis, FourierAxis, FreeSlip, NoSlip, Periodic, stretched_faces
from solver.grid.grid import Grid
from tests.grids import GRIDS, PERIODIC, SLIP, WALL, uneven, walls

LINES = {"walls": walls(11), "uniform": walls(8, stretching=0.0), "uneven": uneven(9, 2.0), "two": walls(2)}


@pytest.mark.parametrize("dealias", ["3/2", "2/3"])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 12, 13, 15, 16, 31, 96])
def test_points_exceed_three_highest_modes(n, dealias):
    axis = FourierAxis(n, 5.0, dealias)
    assert axis.points > 3 * axis.highest_mode
    assert 2 * axis.highest_mode < n
    assert axis.highest_mode == max(k for k in range(n + 1) if (3 if dealias == "2/3" else 2) * k < n)


def test_one_point_is_the_mean_alone():
    axis = FourierAxis(1, 3.0)
    assert (axis.points, axis.highest_mode, axis.resolution) == (1, 0, 3.0)
    assert axis.wavenumbers(half=True) == axis.wavenumbers(half=False) == [0.0]


@pytest.mark.parametrize("n", [4, 9, 13])
def test_wavenumbers_are_those_of_the_dft(n):
    axis = FourierAxis(n, 5.0)
    dft = 2 * np.pi * np.fft.fftfreq(axis.points, axis.length / axis.points)
    retained = dft[np.abs(dft) <= 2 * np.pi / axis.length * (axis.highest_mode + 0.5)]
    np.testing.assert_allclose(axis.wavenumbers(half=False), retained, rtol=1e-14)
    np.testing.assert_allclose(axis.wavenumbers(half=True), retained[: axis.highest_mode + 1], rtol=1e-14)


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_cells_fill_the_axis(line):
    assert line.width.sum() == pytest.approx(line.length, rel=1e-14)
    np.testing.assert_allclose(line.spacing[1:-1], np.diff(line.centres), rtol=1e-13)
    assert (line.spacing[0] == line.spacing[-1]) == (line.periodic or line.width[0] == line.width[-1])


def test_ghost_cells_mirror_at_walls_and_wrap_when_periodic():
    faces = np.array([0.0, 1.0, 3.0, 6.0])
    wall, ring = FiniteVolumeAxis(faces, WALL, SLIP), FiniteVolumeAxis(faces, PERIODIC, PERIODIC)
    np.testing.assert_allclose(wall.spacing, [1.0, 1.5, 2.5, 3.0])
    np.testing.assert_allclose(ring.spacing, [2.0, 1.5, 2.5, 2.0])


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_laplacian_eigenpairs_against_dense_assembly(line):
    slope = np.zeros((line.n + 1, line.n))  # on faces 0 .. n, zero on walls
    for face in range(0 if line.periodic else 1, line.n + (1 if line.periodic else 0)):
        slope[face, face % line.n] += 1 / line.spacing[face]
        slope[face, face - 1] -= 1 / line.spacing[face]
    if line.periodic:
        slope[-1] = slope[0]
    dense = np.diff(slope, axis=0)  # times cell heights: symmetric
    values, q = line.laplacian
    np.testing.assert_allclose(values, eigh(dense, np.diag(line.width))[0], atol=1e-12 * abs(values).max())
    root = np.sqrt(line.width)
    rebuilt = (q / root[:, None] * values) @ (q.T * root)
    np.testing.assert_allclose(rebuilt, dense / line.width[:, None], atol=1e-13 * abs(values).max())
    np.testing.assert_allclose(q.T @ q, np.eye(line.n), atol=1e-13)
    assert sum(values > -1e-12 * abs(values).max()) == 1  # constants, and nothing else


@pytest.mark.parametrize("stretching", [0.0, 0.8, 2.5])
@pytest.mark.parametrize("n", [2, 9, 32])
def test_stretched_faces_are_symmetric_and_clustered(n, stretching):
    faces = stretched_faces(n, -1.0, 3.0, stretching)
    assert (faces[0], faces[-1]) == (-1.0, 3.0)
    np.testing.assert_allclose(faces + faces[::-1], 2.0, atol=1e-15)
    width = np.diff(faces)
    assert n == 2 or (width[0] < 0.999 * width[n // 2]) == (stretching > 0)
    assert FiniteVolumeAxis(faces, WALL, WALL).uniform == (n == 2 or stretching == 0)


@pytest.mark.parametrize("name", GRIDS)
def test_grid_volumes(name):
    grid = GRIDS[name]
    assert grid.cell_volume.shape == grid.shape
    assert grid.cell_volume.sum() == pytest.approx(grid.volume, rel=1e-13)
    delta = np.broadcast_to(grid.delta, grid.shape)
    retained = np.prod([2 * a.highest_mode + 1 if a.is_fourier else a.n for a in grid.axes])
    assert (delta**3).mean() * retained == pytest.approx(grid.volume, rel=1e-12)


F, V = FourierAxis(4, 1.0), walls(4)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: FourierAxis(0, 1.0), r"n >= 1 .* n = 0"),
        (lambda: FourierAxis(4, -1.0), r"length > 0.* length = -1.0"),
        (lambda: FiniteVolumeAxis(np.array([0.0, 1.0]), WALL, WALL), "two cells"),
        (lambda: FiniteVolumeAxis(np.array([0.0, 2.0, 1.0]), WALL, WALL), "increasing"),
        (
            lambda: FiniteVolumeAxis(np.array([0.0, 1.0, 2.0]), Periodic(), NoSlip()),
            "'periodic' must be both ends",
        ),
        (
            lambda: FiniteVolumeAxis(np.array([0.0, 1.0, 2.0]), FreeSlip(), Periodic()),
            "'periodic' must be both ends",
        ),
        (lambda: Grid(V, F, F), "y can be Fourier only where x and z are"),
        (lambda: Grid(F, F, V), "y can be Fourier only where x and z are"),
        (lambda: Grid(V, V, F), "swap x and z"),
    ],
)
def test_refusals_say_what_is_wrong(build, says):
    with pytest.raises(CaseError, match=says):
        build()
