"""Solid bodies on a grid of cells: which cells they fill, which faces stay open, which fluid parts they leave."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from solver.errors import CaseError
from solver.grid.axis import Array
from solver.grid.grid import Grid
from solver.solids.shapes import Mask, Shape, words
from solver.solids.surface import Surface

ROUGH = 0.1  # of the volume of a body: cells that miss it by more are worth a word
log = logging.getLogger("solver")


@dataclass(frozen=True, eq=False)
class Solids:
    """A solid mask on a grid of cells and what follows from it.

    Parameters
    ----------
    grid : finite-volume in every direction, or a single Fourier point (a plane flow).
    solid : ``(nx, ny, nz)``, True where a cell is solid.

    Raises
    ------
    CaseError : the grid has Fourier directions, the mask another shape, or no cell is left to the fluid.
    """

    grid: Grid
    solid: Mask

    def __post_init__(self) -> None:
        for name, axis in zip("xyz", self.grid.axes, strict=True):
            if axis.is_fourier and axis.points > 1:
                raise CaseError(f"[solids] {name} is a Fourier axis: set [grid.{name}] kind = 'finite_volume'")
        if self.solid.shape != self.grid.shape:
            raise CaseError(f"[solids] mask of shape {self.solid.shape} on a grid of {self.grid.shape} cells")
        if self.solid.all():
            raise CaseError("[solids] no fluid is left, every cell centre lies in a solid: make the shapes smaller")

    @classmethod
    def from_shapes(cls, grid: Grid, shapes: Sequence[Shape]) -> Solids:
        """Cells whose centre lies in a shape, or in its image beyond a periodic seam.

        Warns of shapes whose cells miss their volume by more than a tenth.

        Raises
        ------
        CaseError : a shape contains no cell centre (too small, or outside the box), or no fluid is left.
        """
        solid = np.zeros(grid.shape, dtype=bool)
        shifts = [
            (0.0, axis.length, -axis.length) if axis.periodic and axis.points > 1 else (0.0,) for axis in grid.axes
        ]
        x, y, z = (axis.centres for axis in grid.axes)
        for shape in shapes:
            times = np.zeros(grid.shape, dtype=np.int64)
            for dx, dy, dz in product(*shifts):
                times += shape.count((x + dx)[:, None, None], (y + dy)[None, :, None], (z + dz)[None, None, :])
            if not times.any():
                raise CaseError(f"[solids] {shape} contains no cell centre: {_misplaced(grid, shape)}")
            _warn_if_rough(grid, shape, times)
            solid |= times > 0
        return cls(grid, solid)

    @classmethod
    def none(cls, grid: Grid) -> Solids:
        """A grid full of fluid."""
        return cls(grid, np.zeros(grid.shape, dtype=bool))

    def __str__(self) -> str:
        count, parts = int(self.solid.sum()), self.part_count
        apart = "" if parts == 1 else f"; the fluid is in {parts} parts that no open face connects"
        return f"{count} of {self.solid.size} cells ({count / self.solid.size:.1%}){apart}"

    @property
    def fluid(self) -> Mask:
        """``(nx, ny, nz)``, True where a cell is fluid."""
        return ~self.solid

    @cached_property
    def _parts(self) -> tuple[NDArray[np.int32], int]:
        from scipy.ndimage import label  # dear, and asked for by flows around bodies alone

        labels, count = label(self.fluid)
        pairs = []
        for axis, line in enumerate(self.grid.axes):
            if line.periodic:
                ends = np.stack([labels.take(0, axis).ravel(), labels.take(-1, axis).ravel()])
                pairs.append(ends[:, ends.all(axis=0)])
        if not pairs or count == 1:
            return labels.astype(np.int32), count
        first, last = np.concatenate(pairs, axis=1) - 1
        joined = coo_array((np.ones(len(first)), (first, last)), shape=(count, count))
        count, merged = connected_components(joined, directed=False)
        return np.concatenate([[0], merged + 1]).astype(np.int32)[labels], int(count)

    @property
    def parts(self) -> NDArray[np.int32]:
        """``(nx, ny, nz)``: 0 in solids, 1 .. part_count in the connected parts of the fluid."""
        return self._parts[0]

    @property
    def part_count(self) -> int:
        """Number of fluid parts that no open face connects."""
        return self._parts[1]


def _corners(grid: Grid) -> tuple[Array, Array]:
    """Lower and upper corner of the box."""
    low = np.array([float(np.asarray(a.centres)[0] - 0.5 * np.asarray(a.width).flat[0]) for a in grid.axes])
    return low, low + [axis.length for axis in grid.axes]


def _cell(grid: Grid) -> float:
    """The longest side of the smallest cell."""
    return max(float(np.min(axis.width)) for axis in grid.axes if axis.points > 1)


def _misplaced(grid: Grid, shape: Shape) -> str:
    """Where a shape is that fills no cell, where the box is, and what may help."""
    low, high = _corners(grid)
    ratio = np.subtract(shape.bounds[1], shape.bounds[0]).max() / (high - low).max()
    touches = (np.less(shape.bounds[0], high) & np.less(low, shape.bounds[1])).all()
    remedy = "move it into the box, or refine the grid"
    if isinstance(shape, Surface) and not 0.02 < ratio < 50:
        remedy = f"is its unit another (scale = {0.001 if ratio > 1 else 1000})?"
    elif touches and shape.thickness < _cell(grid):
        remedy = f"it is thinner than a cell of {_cell(grid):.4g}: thicken it or refine the grid"
    place = f"it reaches from {words(shape.bounds[0])} to {words(shape.bounds[1])}"
    return f"{place}, the box from {words(low.tolist())} to {words(high.tolist())}; {remedy}"


def _warn_if_rough(grid: Grid, shape: Shape, times: NDArray[np.int64]) -> None:
    """Say so where cells are too coarse for a shape that lies in the box as a whole."""
    low, high = _corners(grid)
    whole = (np.subtract(shape.bounds[0], low) > -1e-9).all() and (np.subtract(high, shape.bounds[1]) > -1e-9).all()
    if not (whole and 0 < shape.volume < np.inf):
        return
    filled = float((grid.cell_volume * times).sum())
    if abs(filled - shape.volume) > ROUGH * shape.volume:
        thin = ", and it is thinner than a cell: thicken it or refine the grid" * (shape.thickness < _cell(grid))
        log.warning(
            "[solids] %s: its %d cells have %.0f %% of its volume%s",
            *(shape, int((times > 0).sum()), 100 * filled / shape.volume, thin),
        )
