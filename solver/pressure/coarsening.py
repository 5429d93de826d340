"""A seven-point system and its coarse image: cells merge in pairs, open face areas add up, values pass linearly.

Coarse faces carry the open area of the fine faces they consist of, over the coarse distance of centres. A fine
value is interpolated from its parent and from the parent's nearest neighbour in each direction, but only through
open coarse faces; the restriction is the transpose. Linear functions pass exactly away from solids, which a
second-order operator needs (P. Wesseling, An Introduction to Multigrid Methods, 1992, section 5.3).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from solver.grid.axis import Array, Axis, FiniteVolumeAxis
from solver.pressure.layout import ORDER, POSITION, Layout

COMPARABLE = 0.3  # an axis is coarsened if its coupling is at least this share of the strongest


@dataclass(frozen=True, eq=False)
class System:
    """A seven-point system of one rank (see `Stencil`) and the geometry it came from.

    Parameters
    ----------
    layout : of this rank.
    axes : the global axes.
    counts : cells in y of every slab.
    coupling, diagonal : as in `Stencil`.
    """

    layout: Layout
    axes: tuple[Axis, Axis, Axis]
    counts: tuple[int, ...]
    coupling: dict[int, Tensor | float]
    diagonal: Tensor

    def local(self, values: Array, axis: int, extra: int = 0) -> Array:
        """This rank's part of a global 1-D array along an axis; `extra` more entries for y."""
        if axis != 1 or self.layout.slabs is None:
            return values
        start = sum(self.counts[: self.layout.slabs.rank])
        return values[start : start + self.layout.shape[1] + extra]

    def line(self, values: Array, axis: int) -> Tensor:
        """A local 1-D array shaped to broadcast along an axis of (y, x, z) cells."""
        shape = [1, 1, 1]
        shape[POSITION[axis]] = -1
        return torch.as_tensor(values, dtype=self.diagonal.dtype, device=self.layout.device).reshape(shape)

    def face_coupling(self, axis: int) -> Tensor:
        """Flat coupling at the upper faces, zero where closed."""
        c = self.coupling[axis]
        if isinstance(c, Tensor):
            return c
        stride, flat = self.layout.stride[axis], torch.zeros_like(self.diagonal)
        live = self.layout.exchange((self.diagonal > 0).to(flat.dtype))
        torch.mul(live[:-stride], live[stride:], out=flat[:-stride])
        return flat.mul_(c)

    def set_diagonal(self) -> None:
        """Fill the diagonal: the couplings of all six faces."""
        layout, total = self.layout, self.layout.zeros(self.diagonal.dtype)
        for axis in layout.active:
            c = self.face_coupling(axis)
            layout.core(total).add_(layout.core(c)).add_(layout.shifted(c, axis, -1))
        layout.cells(self.diagonal).copy_(layout.cells(total))

    def coarse_axes(self) -> tuple[int, ...]:
        """The axes to coarsen: long enough on every slab, and coupled about as strongly as any other of these."""
        long = [d for d in self.layout.active if (min(self.counts) if d == 1 else self.axes[d].points) >= 4]
        strength = {d: float(np.mean(1.0 / self.axes[d].width)) ** 2 for d in long}
        return tuple(d for d in long if strength[d] >= COMPARABLE * max(strength.values()))


def left(f: Tensor, dim: int) -> Tensor:
    """First children along a dimension."""
    m = f.shape[dim] // 2
    return f[(slice(None),) * dim + (slice(0, 2 * m, 2),)]


def right(f: Tensor, dim: int) -> Tensor:
    """Last children; of an odd number the last three have one parent."""
    n = f.shape[dim]
    last = f[(slice(None),) * dim + (slice(1, n - n % 2, 2),)]
    if n % 2:
        last = last.clone()
        last.select(dim, -1).copy_(f.select(dim, n - 1))
    return last


def merged(f: Tensor, dim: int) -> Tensor:
    """Sums over the children."""
    n = f.shape[dim]
    sums = left(f, dim) + f[(slice(None),) * dim + (slice(1, n - n % 2, 2),)]
    if n % 2:
        sums.select(dim, -1).add_(f.select(dim, n - 1))
    return sums


def spread(first: Tensor, last: Tensor, middle: Tensor, n: int, dim: int, out: Tensor | None = None) -> Tensor:
    """The inverse layout of `left` and `right`; `middle` goes to the odd child."""
    if out is None:
        out = first.new_empty([n if d == dim else size for d, size in enumerate(first.shape)])
    before = (slice(None),) * dim
    out[(*before, slice(0, n - n % 2, 2))] = first
    out[(*before, slice(1, n - n % 2, 2))] = last
    if n % 2:
        out.select(dim, n - 1).copy_(last.select(dim, -1))
        out.select(dim, n - 2).copy_(middle.select(dim, -1))
    return out


def _merge_line(axis: FiniteVolumeAxis, counts: tuple[int, ...]) -> FiniteVolumeAxis:
    """The axis whose cells are pairs (last: perhaps three) of every slab."""
    faces, start = [axis.faces[:1]], 0
    for n in counts:
        faces.append(axis.faces[[*range(start + 2, start + 2 * (n // 2) - 1, 2), start + n]])
        start += n
    return FiniteVolumeAxis(np.concatenate(faces), axis.lower, axis.upper)


class Transfer:
    """Interpolation from a coarse system to the fine one, and its transpose."""

    def __init__(self, fine: System, coarse: System, axes: tuple[int, ...]) -> None:
        self.fine, self.coarse, self.axes = fine.layout, coarse.layout, axes
        dtype, layout = fine.diagonal.dtype, coarse.layout
        self.toward_lower: dict[int, Tensor] = {}  # weights of the neighbours, at the core
        self.toward_upper: dict[int, Tensor] = {}
        for axis in axes:
            opened = (coarse.face_coupling(axis) > 0).to(dtype)
            lower, upper = (self._weights(fine, coarse, axis, end) for end in (0, 1))
            flat_lower, flat_upper = layout.zeros(dtype), layout.zeros(dtype)
            layout.core(flat_lower).copy_(layout.shifted(opened, axis, -1))
            layout.core(flat_upper).copy_(layout.core(opened))
            layout.cells(flat_lower).mul_(lower)
            layout.cells(flat_upper).mul_(upper)
            self.toward_lower[axis], self.toward_upper[axis] = layout.core(flat_lower), layout.core(flat_upper)
        self.live = (fine.layout.core(fine.diagonal) > 0).to(dtype)
        self.expanded = fine.layout.zeros(dtype)
        self.scratch = {axis: (layout.zeros(dtype), layout.zeros(dtype)) for axis in axes}

    @staticmethod
    def _weights(fine: System, coarse: System, axis: int, end: int) -> Tensor:
        """Distance of the outer child from its parent's centre over the parents' distance, beyond `end`."""
        centres = torch.as_tensor(fine.local(fine.axes[axis].centres, axis))
        line = coarse.axes[axis]
        assert isinstance(line, FiniteVolumeAxis)
        parents = coarse.local(line.centres, axis)
        gap = coarse.local(line.spacing, axis, 1)
        child = (right if end else left)(centres, 0).numpy()
        return coarse.line(np.abs(child - parents) / (gap[1:] if end else gap[:-1]), axis)

    def restrict(self, residual: Tensor, out: Tensor) -> None:
        """Transpose of the interpolation; `residual` is zero in solids; ghosts of `out` are undefined."""
        sums = self.fine.cells(residual)
        slopes: dict[int, tuple[Tensor, Tensor]] = {}  # sums over first and last children
        for axis in (d for d in ORDER if d in self.axes):
            dim = POSITION[axis]
            slopes = {d: (merged(a, dim), merged(b, dim)) for d, (a, b) in slopes.items()}
            slopes[axis] = (left(sums, dim), right(sums, dim))
            sums = merged(sums, dim)
        at, core = self.coarse.shifted, self.coarse.core
        self.coarse.cells(out).copy_(sums)
        for axis, (first, last) in slopes.items():
            low, up = self.scratch[axis]
            self.coarse.cells(low).copy_(first)
            self.coarse.cells(up).copy_(last)
            core(low).mul_(self.toward_lower[axis])
            core(up).mul_(self.toward_upper[axis])
            self.coarse.exchange(low)
            self.coarse.exchange(up)
            core(out).add_(at(low, axis, 1) - core(low) + at(up, axis, -1) - core(up))

    def add_correction(self, coarse: Tensor, x: Tensor) -> None:
        """Add the interpolated coarse field (ghosts filled) to `x` in the fluid."""
        at, core, cells = self.coarse.shifted, self.coarse.core, self.coarse.cells
        base = cells(coarse)
        slopes = {}
        for axis in self.axes:
            low, up = self.scratch[axis]
            torch.mul(self.toward_lower[axis], at(coarse, axis, -1) - core(coarse), out=core(low))
            torch.mul(self.toward_upper[axis], at(coarse, axis, 1) - core(coarse), out=core(up))
            slopes[axis] = (cells(low), cells(up))
        order = [d for d in reversed(ORDER) if d in self.axes]
        for axis in order:
            dim, n = POSITION[axis], self.fine.shape[axis]
            low, up = slopes.pop(axis)
            slopes = {d: (spread(a, a, a, n, dim), spread(b, b, b, n, dim)) for d, (a, b) in slopes.items()}
            target = self.fine.cells(self.expanded) if axis == order[-1] else None
            base = spread(base + low, base + up, base, n, dim, target)
        self.fine.core(x).addcmul_(self.fine.core(self.expanded), self.live)


def coarsen(fine: System) -> tuple[System, Transfer] | None:
    """The next coarser system and the way to it; None where no axis is long enough."""
    chosen = fine.coarse_axes()
    if not chosen:
        return None
    axes, counts = list(fine.axes), fine.counts
    shape = list(fine.layout.shape)
    for d in chosen:
        line = axes[d]
        assert isinstance(line, FiniteVolumeAxis)
        axes[d] = _merge_line(line, counts if d == 1 else (line.n,))
        shape[d] //= 2
        counts = tuple(n // 2 for n in counts) if d == 1 else counts
    layout = replace(fine.layout, shape=(shape[0], shape[1], shape[2]))
    coarse = System(layout, (axes[0], axes[1], axes[2]), counts, {}, layout.zeros(fine.diagonal.dtype))
    for axis in fine.layout.active:
        coarse.coupling[axis] = _merge_faces(fine, coarse, axis, chosen)
    coarse.set_diagonal()
    return coarse, Transfer(fine, coarse, chosen)


def _sum_children(f: Tensor, axes: tuple[int, ...]) -> Tensor:
    for axis in (d for d in ORDER if d in axes):
        f = merged(f, POSITION[axis])
    return f


def _merge_faces(fine: System, coarse: System, axis: int, chosen: tuple[int, ...]) -> Tensor:
    """Coupling over coarse faces: the fine ones they consist of, over a longer distance."""
    c = fine.layout.cells(fine.face_coupling(axis))
    if axis in chosen:
        line, merged_line = fine.axes[axis], coarse.axes[axis]
        assert isinstance(line, FiniteVolumeAxis)
        assert isinstance(merged_line, FiniteVolumeAxis)
        gaps = torch.as_tensor(fine.local(line.spacing[1:], axis))
        ratio = right(gaps, 0).numpy() / coarse.local(merged_line.spacing[1:], axis)
        c = right(c, POSITION[axis]) * coarse.line(ratio, axis)
    flat = coarse.layout.zeros(fine.diagonal.dtype)
    coarse.layout.cells(flat).copy_(_sum_children(c, tuple(d for d in chosen if d != axis)))
    return coarse.layout.exchange(flat)
