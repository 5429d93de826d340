"""Flat storage of cell fields with a shell of ghosts, so that every neighbour is a fixed distance away.

A field of a rank is one contiguous vector over ``(ny + 2, nx + 2, nz + 2)`` cells, y slowest; directions of a single
point have no ghosts. What lies beyond walls, and in solids, is kept at zero: stencils then need no cases.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from solver.grid.grid import Grid
from solver.parallel.slabs import Slabs

ORDER = (1, 0, 2)  # memory order of x, y, z: y slowest
POSITION = (1, 0, 2)  # dimension of axis x, y, z in a (y, x, z) array


@dataclass(frozen=True, eq=False)
class Layout:
    """Flat cells of one rank.

    Parameters
    ----------
    shape : cells of this rank, (nx, ny, nz).
    periodic : per axis.
    device : where the vectors live.
    slabs : the ranks that share y, at least two; None where this rank holds all of it.
    """

    shape: tuple[int, int, int]
    periodic: tuple[bool, bool, bool]
    device: torch.device
    slabs: Slabs | None = None

    @cached_property
    def active(self) -> tuple[int, ...]:
        """Axes with neighbours."""
        whole = (self.shape[0], self.slabs.ny if self.slabs else self.shape[1], self.shape[2])
        return tuple(d for d in range(3) if whole[d] > 1)

    @cached_property
    def padded(self) -> tuple[int, int, int]:
        """Cells with ghosts in memory order (y, x, z)."""
        y, x, z = (self.shape[d] + 2 * (d in self.active) for d in ORDER)
        return y, x, z

    @cached_property
    def stride(self) -> tuple[int, int, int]:
        """Distance between neighbours along x, y, z."""
        _, x, z = self.padded
        return z, x * z, 1

    @cached_property
    def size(self) -> int:
        """Entries of a flat vector."""
        return math.prod(self.padded)

    @cached_property
    def margin(self) -> int:
        """Entries at either end that have no neighbour in memory (all are ghosts)."""
        return max(self.stride[d] for d in self.active)

    def zeros(self, dtype: torch.dtype) -> Tensor:
        """A flat field of zeros."""
        return torch.zeros(self.size, dtype=dtype, device=self.device)

    def core(self, flat: Tensor) -> Tensor:
        """The entries that have all neighbours."""
        return flat[self.margin : self.size - self.margin]

    def shifted(self, flat: Tensor, axis: int, step: int) -> Tensor:
        """What lies `step` cells up `axis`, as seen from the core."""
        start = self.margin + step * self.stride[axis]
        return flat[start : start + self.size - 2 * self.margin]

    def cells(self, flat: Tensor) -> Tensor:
        """View of the cells without ghosts, (ny, nx, nz)."""
        f = flat.view(self.padded)
        for axis in self.active:
            f = f.narrow(POSITION[axis], 1, self.shape[axis])
        return f

    def pack(self, f: Tensor, dtype: torch.dtype) -> Tensor:
        """Flat copy of a field (..., nx, ny, nz) with zero ghosts."""
        flat = self.zeros(dtype)
        self.cells(flat).copy_(f.reshape(f.shape[-3:]).transpose(0, 1))
        return flat

    def unpack(self, flat: Tensor, out: Tensor) -> Tensor:
        """Copy the cells into a field (..., nx, ny, nz)."""
        out.view(out.shape[-3:]).transpose(0, 1).copy_(self.cells(flat))
        return out

    @cached_property
    def exchange(self) -> Callable[[Tensor], Tensor]:
        """Function that fills the ghosts at periodic seams and between slabs, in place; beyond walls it leaves them."""
        local = [d for d in self.active if self.periodic[d] and (d != 1 or self.slabs is None)]

        def fill(flat: Tensor) -> Tensor:
            f = flat.view(self.padded)
            for axis in local:
                dim, n = POSITION[axis], self.shape[axis]
                f.select(dim, 0).copy_(f.select(dim, n))
                f.select(dim, n + 1).copy_(f.select(dim, 1))
            if self.slabs is not None:
                below, above = self.slabs.neighbours(f[-2][None], f[1][None])
                for ghost, plane in ((f[0], below), (f[-1], above)):
                    if plane is not None:
                        ghost.copy_(plane[0])
            return flat

        return fill

    def dot(self, a: Tensor, b: Tensor) -> float:
        """``a . b`` of flat fields over all ranks."""
        return float(self.sum(torch.dot(a, b)))

    def norm(self, flat: Tensor) -> float:
        """Euclidean norm of a flat field over all ranks."""
        return math.sqrt(self.dot(flat, flat))

    def sum(self, value: Tensor) -> Tensor:
        """Sum over the ranks that share the layout."""
        return value if self.slabs is None else self.slabs.sum(value)


def layout_of(grid: Grid, slabs: Slabs, device: torch.device) -> Layout:
    """The layout of a grid of cells on its slabs."""
    nx, _, nz = grid.shape
    x, y, z = (axis.periodic for axis in grid.axes)
    return Layout((nx, slabs.local_ny, nz), (x, y, z), device, slabs if slabs.size > 1 else None)
