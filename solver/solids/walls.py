"""No-slip faces of voxel solids as factors on whole fields, and the velocity gradients that see them.

A velocity component is free where both cells it lies between are fluid; elsewhere it is zero. With that alone the
fluxes of `Momentum` conserve kinetic energy: convection is skew-symmetric, and so is its restriction to the free
components. What zeros inside a solid get wrong is the distance of the wall: it is a face, half a cell away, not the
next velocity point. A factor on each difference puts that right, and being one number for both sides of an edge keeps
diffusion symmetric and momentum in balance.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from solver.discretisation.calculus import Components, Operators
from solver.discretisation.gradient import WallFactors
from solver.discretisation.staggered import y_slowest
from solver.grid.axis import Array, FiniteVolumeAxis
from solver.solids.mask import Solids
from solver.solids.shapes import Mask

Pair = tuple[int, int]
Entry = TypeVar("Entry", bound=np.generic)


def _take(a: NDArray[Entry], axis: int, first: int, count: int) -> NDArray[Entry]:
    return a[(slice(None),) * axis + (slice(first, first + count),)]


def memory_order(f: Tensor) -> Tensor:
    """A field as one line of numbers, y slowest."""
    return f.transpose(-3, -2).reshape(-1)


def _along(values: Array, axis: int) -> Array:
    shape = [1, 1, 1]
    shape[axis] = -1
    return values.reshape(shape)


class SolidWalls:
    """Masks and factors of one rank.

    Parameters
    ----------
    operators : the discrete calculus of a grid of cells (z may be a single Fourier point).
    solids : of the whole grid.

    Attributes
    ----------
    free : per component, 1 where it moves, 0 in solids and on their faces (and on walls of the box), (1, nx, ny, nz).
    fluid : 1 in fluid cells, (nx, local ny, nz).
    factors : what the velocity gradients are multiplied by.
    inner_slope : per (i, j), the factors on differences without ghosts across j.
    blocked : per component, flat positions (in memory order) of those that solids block, and their volumes.
    """

    def __init__(self, operators: Operators, solids: Solids) -> None:
        self.operators, self.solids, self.grid = operators, solids, operators.grid
        cells = solids.fluid
        for axis, line in self.grid.volume_axes.items():  # beyond a wall of the box lies what lies before it
            ends = [(1, 1) if d == axis else (0, 0) for d in range(3)]
            cells = np.pad(cells, ends, mode="wrap" if line.periodic else "edge")
        self.fluid = operators.scatter(solids.fluid[None].astype(np.float64))[0]
        u, v, w = (self._free(cells, i) for i in range(3))
        self.free: Components = (u, v, w)
        self.blocked = [self._blocked(i) for i in range(3)]
        pairs = [(i, j) for i in range(3) for j in range(3) if i != j]
        slope = {(i, j): self._local(self._slope(cells, i, j)) for i, j in pairs if j in operators.volume_axes}
        wet = {(i, j): self._local(self._wet(cells, i, j)) for i, j in pairs}
        self.factors = WallFactors(slope, wet, self.fluid)
        self.inner_slope = {(i, j): operators.inner(f, j) for (i, j), f in slope.items()}

    def _local(self, whole: Array) -> Tensor:
        """This rank's part of an array that has some entries more than planes along y."""
        op = self.operators
        planes = op.decomposition.planes
        part = whole[:, planes.start : planes.stop + whole.shape[1] - self.grid.shape[1]]
        return y_slowest(op.tensor(part))

    def _between(self, cells: Mask, i: int) -> Mask:
        """Where u_i has fluid on both sides: faces 0 .. n of padded cells, or the cells where it is not staggered."""
        if i not in self.operators.volume_axes:
            return cells
        n = cells.shape[i] - 1
        return _take(cells, i, 0, n) & _take(cells, i, 1, n)

    def _core(self, a: Mask, axes: tuple[int, ...]) -> Mask:
        """Without the ghosts along some of the axes; of faces 0 .. n the upper ones."""
        for axis in self.operators.volume_axes:
            if axis in axes:
                a = _take(a, axis, 1, self.grid.shape[axis])
        return a

    def _free(self, cells: Mask, i: int) -> Tensor:
        free = self._core(self._between(cells, i), (0, 1, 2)).astype(np.float64)
        line = self.grid.axes[i]
        if isinstance(line, FiniteVolumeAxis) and not (line.periodic or line.is_open):
            _take(free, i, line.n - 1, 1)[...] = 0.0
        return self.operators.scatter(free[None])

    def _blocked(self, i: int) -> tuple[Tensor, Tensor]:
        op, volume = self.operators, np.ones((1, 1, 1))
        for axis, line in enumerate(self.grid.axes):
            size = line.spacing[1:] if axis == i and isinstance(line, FiniteVolumeAxis) else line.width
            if axis == i and not line.periodic:  # the end of the box is no solid
                size = np.concatenate([size[:-1], [0.0]])
            volume = volume * _along(size, axis)
        held = memory_order(op.scatter(volume[None]) * (1.0 - self.free[i]))
        at = torch.nonzero(held).flatten()
        return at, held[at]

    def masked(self, velocity: Components) -> Components:
        """The velocity with every blocked component zero."""
        u, v, w = (f * free for f, free in zip(velocity, self.free, strict=True))
        return u, v, w

    def blocked_momentum(self, velocity: Components) -> Tensor:
        """Sum of the blocked components times their volumes, three numbers of this rank."""
        parts = zip(velocity, self.blocked, strict=True)
        return torch.stack([(memory_order(f)[at] * volume).sum() for f, (at, volume) in parts])

    def _slope(self, cells: Mask, i: int, j: int) -> Array:
        """The wall is half a cell away over the share of the edge that a solid has: 1 + share (gap / half - 1)."""
        line, n = self.grid.volume_axes[j], self.grid.shape[j]
        free, blocked = self._between(cells, i), self._share_of_solids(cells, i)
        below, above = _take(free, j, 0, n + 1), _take(free, j, 1, n + 1)
        nearer = [2.0 * line.spacing / width - 1.0 for width in (line.padded_width[:-1], line.padded_width[1:])]
        under_ceiling = (below & ~above) * _take(blocked, j, 1, n + 1) * _along(nearer[0], j)
        over_floor = (above & ~below) * _take(blocked, j, 0, n + 1) * _along(nearer[1], j)
        factor: Array = 1.0 + under_ceiling + over_floor
        if i not in self.operators.volume_axes:
            return factor
        return np.pad(factor, [(0, 1) if d == i else (0, 0) for d in range(3)], constant_values=1.0)

    def _share_of_solids(self, cells: Mask, i: int) -> Array:
        """Of the control volume of u_i, the share that solids have, where `_between` lives."""
        if i not in self.operators.volume_axes:
            return np.where(cells, 0.0, 1.0)
        n, width = cells.shape[i] - 1, self.grid.volume_axes[i].padded_width
        weight = _along(width[:-1] / (width[:-1] + width[1:]), i)
        share: Array = 1.0 - (weight * _take(cells, i, 0, n) + (1.0 - weight) * _take(cells, i, 1, n))
        return share

    def _wet(self, cells: Mask, i: int, j: int) -> Array:
        free = self._between(cells, i)
        others = tuple({0, 1, 2} - {j})
        if j in self.operators.volume_axes:
            n = self.grid.shape[j] + 1
            free = _take(free, j, 0, n) & _take(free, j, 1, n)
        return self._core(free, others).astype(np.float64)
