"""Voxelised bodies: volumes, seams, open faces, connected parts, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from solver.errors import CaseError
from solver.grid.axis import FourierAxis
from solver.grid.grid import Grid
from solver.solids.mask import Solids
from solver.solids.shapes import Box, Cylinder, Sphere
from tests.pressure.problems import PERIODIC, cells, cube

FINE = cube(48)


def filled(grid: Grid, *shapes) -> float:
    """Volume of the solid cells."""
    return float((grid.cell_volume * Solids.from_shapes(grid, shapes).solid).sum())


@pytest.mark.parametrize(
    ("shape", "volume"),
    [
        (Box((0.125, 0.25, 0.0), (0.5, 0.75, 1.0)), 0.375 * 0.5),
        (Sphere((0.5, 0.5, 0.5), 0.3), 4 / 3 * np.pi * 0.3**3),
        (Sphere((0.0, 0.5, 1.0), 0.3), np.pi / 3 * 0.3**3),
        (Cylinder((0.5, 0.5, 0.0), 0.3), np.pi * 0.3**2),
        (Cylinder((0.0, 0.5, 0.5), 0.3, axis=0, lower=0.25, upper=0.75), np.pi * 0.3**2 / 2),
        (Cylinder((0.5, 0.0, 0.5), 0.25, axis=1, upper=0.5), np.pi * 0.25**2 / 2),
    ],
)
def test_volumes(shape, volume):
    assert filled(FINE, shape) == pytest.approx(volume, rel=0.01)


def test_a_body_across_a_periodic_seam_is_whole():
    grid = Grid(cells(40, 1.0, PERIODIC), cells(40), cells(40, 1.0, PERIODIC))
    assert filled(grid, Sphere((0.0, 0.5, 0.95), 0.2)) == pytest.approx(filled(grid, Sphere((0.5, 0.5, 0.45), 0.2)))
    moved = Solids.from_shapes(grid, [Sphere((0.0, 0.5, 0.95), 0.2)]).solid
    centred = Solids.from_shapes(grid, [Sphere((0.5, 0.5, 0.45), 0.2)]).solid
    np.testing.assert_array_equal(np.roll(moved, (20, 20), (0, 2)), centred)


def test_fluid_parts():
    slab, core = Box((0.4, -1, -1), (0.6, 2, 2)), Box((0.1, 0.1, 0.1), (0.3, 0.9, 0.9))
    hollow = [Box((0.1 + i * 0.15, 0.1, 0.1), (0.15 + i * 0.15, 0.9, 0.9)) for i in (0, 1)]
    assert Solids.none(cube(10)).part_count == 1
    assert Solids.from_shapes(cube(20), [slab]).part_count == 2
    assert Solids.from_shapes(cube(20), [slab, core]).part_count == 2
    assert Solids.from_shapes(cube(20), [slab, *hollow]).part_count == 2
    joined = Solids.from_shapes(Grid(cells(20, 1.0, PERIODIC), cells(20), cells(20)), [slab])
    assert joined.part_count == 1  # around the seam
    parts = Solids.from_shapes(cube(20), [slab]).parts
    assert set(parts[:8].ravel()) == {1}
    assert set(parts[8:12].ravel()) == {0}
    assert set(parts[12:].ravel()) == {2}
    shell = Sphere((0.5, 0.5, 0.5), 0.4)
    solid = Solids.from_shapes(FINE, [shell]).solid & ~Solids.from_shapes(FINE, [Sphere((0.5, 0.5, 0.5), 0.2)]).solid
    assert Solids(FINE, solid).part_count == 2


def test_refusals_by_name():
    with pytest.raises(CaseError, match="no fluid is left"):
        Solids.from_shapes(cube(6), [Box((-1, -1, -1), (2, 2, 2))])
    with pytest.raises(CaseError, match=r"sphere of radius 0.01 about .* contains no cell centre.*a cell of 0.1667"):
        Solids.from_shapes(cube(6), [Sphere((0.5, 0.5, 0.5), 0.01)])
    with pytest.raises(CaseError, match=r"no cell centre: it reaches from \(4.7, 0.2, 0.2\).*move it into the box"):
        Solids.from_shapes(cube(6), [Sphere((5.0, 0.5, 0.5), 0.3)])
    with pytest.raises(CaseError, match="y is a Fourier axis"):
        Solids.none(Grid(FourierAxis(1, 1.0), FourierAxis(8, 1.0), FourierAxis(1, 1.0)))
    with pytest.raises(CaseError, match=r"mask of shape \(2, 2, 2\)"):
        Solids(cube(6), np.zeros((2, 2, 2), dtype=bool))
    with pytest.raises(CaseError, match="radius = -1"):
        Sphere((0, 0, 0), -1)
    with pytest.raises(CaseError, match="radius = 0"):
        Cylinder((0, 0, 0), 0)
    with pytest.raises(CaseError, match="axis 3"):
        Cylinder((0, 0, 0), 1, axis=3)
    with pytest.raises(CaseError, match="must be below upper"):
        Box((0, 0, 1), (1, 1, 1))


def test_a_body_that_the_cells_miss_is_named(caplog):
    thin, small = Box((0.42, 0.1, 0.1), (0.46, 0.9, 0.9)), Sphere((0.5, 0.5, 0.5), 0.3)
    Solids.from_shapes(cube(10), [thin])
    assert "box from (0.42, 0.1, 0.1) to (0.46, 0.9, 0.9): its 64 cells have 250 %" in caplog.text
    assert "thinner than a cell" in caplog.text
    caplog.clear()
    Solids.from_shapes(cube(20), [small, Cylinder((0.5, 0.5, 0.0), 0.3), Box((-1, -1, -1), (0.13, 2, 2))])
    assert caplog.text == ""


def test_what_a_mask_says():
    two = Solids.from_shapes(cube(10), [Box((0.4, -1, -1), (0.6, 2, 2))])
    assert str(two) == "200 of 1000 cells (20.0%); the fluid is in 2 parts that no open face connects"
