"""The pressure equation ``div grad phi = rhs`` on a grid of cells with solids, in symmetric form.

Both sides are multiplied by the cell volumes: the matrix ``A = -V div grad`` is symmetric positive semi-definite, with
one null vector (a constant) for each part of the fluid.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from solver.discretisation.calculus import Operators
from solver.errors import CaseError
from solver.grid.axis import Array, FiniteVolumeAxis
from solver.pressure.layout import ORDER, POSITION, layout_of
from solver.pressure.stencil import make_stencil
from solver.solids.mask import Solids

Entry = TypeVar("Entry", bound=np.generic)


class Poisson:
    """Matrix-free operator on this rank's slab, in double precision whatever that of the flow.

    A single-precision residual stalls near 1e-5 of the source. Fields are converted on the way in and out, and the
    cycles that precondition the iteration have a precision of their own.

    Parameters
    ----------
    operators : grid, slabs and device.
    solids : cells without unknowns; their faces are closed (zero normal gradient), like walls.

    Raises
    ------
    CaseError : the grid has Fourier directions.
    """

    def __init__(self, operators: Operators, solids: Solids | None = None) -> None:
        self.operators, self.grid = operators, operators.grid
        self.solids = solids if solids is not None else Solids.none(self.grid)
        self.slabs, self.dtype = operators.decomposition, torch.float64
        self.layout = layout_of(self.grid, self.slabs, operators.device)
        for name, line in zip("xyz", self.grid.axes, strict=True):
            if line.is_fourier and line.points > 1:
                raise CaseError(f"[pressure] {name} is a Fourier axis: set [grid.{name}] kind = 'finite_volume'")
        fluid = self._padded(self.solids.fluid)
        self.coupling: dict[int, Tensor | float] = {}
        diagonal = self.layout.zeros(self.dtype)
        for axis in self.layout.active:
            c, diagonal_part = self._couple(axis, fluid)
            self.coupling[axis] = c
            self.layout.core(diagonal).add_(diagonal_part)
        self.diagonal = self.layout.zeros(self.dtype)  # without the sums that ghosts collected
        self.layout.cells(self.diagonal).copy_(self.layout.cells(diagonal))
        self.stencil = make_stencil(self.layout, self.coupling, self.diagonal)

    # -- assembly -------------------------------------------------------------------------------------------------

    def _local(self, values: NDArray[Entry], axis: int, extra: int) -> NDArray[Entry]:
        """This rank's part of a global array along its dimension y; `extra` more entries."""
        planes = self.slabs.planes
        return values.take(range(planes.start, planes.stop + extra), axis=axis)

    def _padded(self, cells: NDArray[Any]) -> Tensor:
        """Flat copy of global cell values, wrapped at periodic seams, zero beyond walls."""
        for axis in self.layout.active:
            ends = [(1, 1) if d == axis else (0, 0) for d in range(3)]
            cells = np.pad(cells, ends, mode="wrap" if self.grid.axes[axis].periodic else "constant")
        if 1 in self.layout.active:
            cells = self._local(cells, 1, 2)
        return torch.from_numpy(np.ascontiguousarray(cells.transpose(ORDER))).reshape(-1).to(self.layout.device)

    def _tensor(self, values: Array) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(values), dtype=self.dtype, device=self.layout.device)

    def _line(self, values: Array, axis: int) -> Tensor:
        """A 1-D array shaped to broadcast along an axis of a (y, x, z) array."""
        shape = [1, 1, 1]
        shape[POSITION[axis]] = -1
        return self._tensor(values).reshape(shape)

    def _width(self, axis: int) -> Array:
        """This rank's cell widths."""
        return self.operators.local(np.asarray(self.grid.axes[axis].width), axis)

    def _face_factor(self, axis: int) -> Tensor:
        """``area / gap`` at the faces 0 .. n of this rank, (y, x, z) broadcastable."""
        line = self.grid.axes[axis]
        assert isinstance(line, FiniteVolumeAxis)
        factor = self._line(1.0 / self.operators.local(line.spacing, axis, 1), axis)
        for other in {0, 1, 2} - {axis}:
            factor = factor * self._line(self._width(other), other)
        return factor

    def _couple(self, axis: int, fluid: Tensor) -> tuple[Tensor | float, Tensor]:
        """Coupling along an axis, and what it adds to the diagonal at the core."""
        at = self.layout.shifted
        upper = self.layout.core(fluid) & at(fluid, axis, 1)
        lower = self.layout.core(fluid) & at(fluid, axis, -1)
        factor = self._face_factor(axis)
        if all(self.grid.axes[d].uniform for d in range(3)):
            c = float(factor.flatten()[0])
            return c, (upper.to(self.dtype) + lower) * c
        flat, dim = self.layout.zeros(self.dtype), POSITION[axis]
        faces = flat.view(self.layout.padded)
        for other in self.layout.active:
            if other == axis:
                faces = faces.narrow(dim, 0, factor.shape[dim])
            else:
                faces = faces.narrow(POSITION[other], 1, self.layout.shape[other])
        faces.copy_(factor.expand(faces.shape))
        flat[: -self.layout.stride[axis]] *= fluid[: -self.layout.stride[axis]] & fluid[self.layout.stride[axis] :]
        return flat, self.layout.core(flat) * upper + at(flat, axis, -1) * lower

    # -- null space -----------------------------------------------------------------------------------------------

    @cached_property
    def volume(self) -> Tensor:
        """Flat cell volumes, zero in solids and ghosts."""
        flat = self.layout.zeros(self.dtype)
        v = self._line(self._width(1), 1) * self._line(self._width(0), 0) * self._line(self._width(2), 2)
        fluid = self._local(self.solids.fluid, 1, 0).transpose(ORDER)
        self.layout.cells(flat).copy_(v * torch.from_numpy(fluid).to(v.device))
        return flat

    @property
    def null_count(self) -> int:
        """Dimension of the null space: parts of the fluid."""
        return self.solids.part_count

    @cached_property
    def part_of(self) -> Tensor:
        """Number (from 1) of the part a cell belongs to, 0 in solids; flat, for this rank."""
        return self._padded(self.solids.parts).long()

    def _part_sums(self, flat: Tensor) -> Tensor:
        """Sum over each part of the fluid (entry 0: everything else)."""
        sums = torch.zeros(self.null_count + 1, dtype=flat.dtype, device=flat.device)
        if self.null_count == 1:  # the vectors vanish outside the only part
            sums[1] = flat.sum()
        else:
            sums.index_add_(0, self.part_of, flat)
        return self.layout.sum(sums)

    @cached_property
    def _part_volume(self) -> Tensor:
        volume = self._part_sums(self.volume)
        volume[0] = torch.inf
        return torch.where(volume > 0, volume, torch.inf)

    def _part_means(self, sums: Tensor) -> Tensor:
        """The mean of the part that each cell belongs to."""
        means = sums / self._part_volume
        return means[1] if self.null_count == 1 else means[self.part_of]

    def compatible(self, b: Tensor) -> Tensor:
        """`b` (multiplied by volumes) less its mean over each part of the fluid: now the system has a solution."""
        return b - self.volume * self._part_means(self._part_sums(b))

    def centred(self, x: Tensor) -> Tensor:
        """`x` with zero mean over each part of the fluid, zero outside."""
        return torch.where(self.volume > 0, x - self._part_means(self._part_sums(x * self.volume)), 0.0)

    # -- use ------------------------------------------------------------------------------------------------------

    def in_fluid(self, f: Tensor) -> Tensor:
        """Flat copy of a field, zero in solids whatever stood there."""
        return torch.where(self.volume > 0, self.layout.pack(f, self.dtype), 0.0)

    def source(self, rhs: Tensor) -> Tensor:
        """Flat ``b = -V rhs`` of a field, made compatible."""
        return self.compatible(self.in_fluid(rhs) * -self.volume)

    def apply(self, phi: Tensor) -> Tensor:
        """``div grad phi`` of a field (..., nx, ny, nz), zero in solids."""
        x = self.in_fluid(phi)
        out = self.layout.zeros(self.dtype)
        self.stencil.apply(self.layout.exchange(x), out)
        return self.layout.unpack(-out / torch.where(self.volume > 0, self.volume, 1.0), torch.empty_like(phi))

    @cached_property
    def unknowns(self) -> Tensor:
        """Flat positions of the cells that have an open face, in the order of the rows."""
        return torch.nonzero(self.diagonal > 0).flatten()

    def rows(self) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
        """This rank's rows of A: CSR row pointers, global columns, values. Solid and isolated cells have no row."""
        layout, index = self.layout, self.unknowns
        counts = torch.zeros(self.slabs.size, dtype=torch.int64)
        counts[self.slabs.rank] = len(index)
        first = int(self.slabs.sum(counts)[: self.slabs.rank].sum())
        number = layout.zeros(torch.float64) - 1.0  # exact for whole numbers up to 2^53
        number[index] = first + torch.arange(len(index), dtype=torch.float64, device=index.device)
        layout.exchange(number)
        columns, values = [number[index]], [self.diagonal[index]]
        for axis, c in self.coupling.items():
            stride = layout.stride[axis]
            for neighbour, face in ((index + stride, index), (index - stride, index - stride)):
                columns.append(number[neighbour])
                values.append(-c[face] if isinstance(c, Tensor) else torch.full_like(values[0], -c))
        column, value = torch.stack(columns, 1).cpu().numpy(), torch.stack(values, 1).cpu().numpy()
        keep = (column >= 0) & (value != 0)
        pointers = np.concatenate([[0], np.cumsum(keep.sum(axis=1))])
        return pointers, column[keep].astype(np.int64), value[keep]
