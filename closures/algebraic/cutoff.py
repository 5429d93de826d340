"""The sharp test filter: half of the modes of every Fourier direction, evaluated on the few points that carry them.

Along each direction filter and evaluation are one small real matrix, so a field of n points becomes one of about n/2
by a matrix product: no transform of the solver's engine, any device, differentiable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from solver.discretisation.calculus import Operators
from solver.discretisation.staggered import DIM, join
from solver.grid.axis import Array, FourierAxis
from solver.parallel.slabs import split_evenly
from solver.pressure.direct import apply_matrix


def kept_modes(axis: FourierAxis) -> int:
    """Highest mode that passes the test filter."""
    return axis.highest_mode // 2


def width_ratio(axis: FourierAxis) -> float:
    """Test filter width over grid filter width: the inverse ratio of the numbers of modes, about 2."""
    return (2 * axis.highest_mode + 1) / (2 * kept_modes(axis) + 1)


def coarse_points(axis: FourierAxis) -> int:
    """Points that carry products of filtered fields without aliasing: every so many of the axis's own points."""
    return next(m for m in range(3 * kept_modes(axis) + 1, axis.points + 1) if axis.points % m == 0)


def restriction(axis: FourierAxis) -> Array:
    """The matrix from the points of `axis` to its coarse points."""
    kept, n, coarse = kept_modes(axis), axis.points, coarse_points(axis)
    phase = 2 * np.pi * (np.arange(coarse)[:, None] / coarse - np.arange(n)[None, :] / n)
    waves = 1.0 + 2.0 * sum((np.cos(k * phase) for k in range(1, kept + 1)), start=np.zeros_like(phase))
    return np.asarray(waves / n)


class CutoffFilter:
    """The filter along some Fourier directions of one grid, for this rank's planes.

    Parameters
    ----------
    operators : grid, slabs, device.
    directions : the filtered directions.
    """

    def __init__(self, operators: Operators, directions: Sequence[int]) -> None:
        axes = operators.grid.fourier_axes
        self.decomposition = operators.decomposition
        self.matrices = {d: operators.tensor(restriction(axes[d])) for d in directions}
        self.counts: list[int] = []  # of the coarse planes of each rank
        self.rows: list[Tensor] = []  # and their rows, zeros after them so that all have as many
        if 1 in self.matrices:  # the columns of this rank's planes: the product is completed by a sum over ranks
            columns = self.matrices[1][:, operators.decomposition.planes]
            self.counts = split_evenly(len(columns), operators.decomposition.size)
            self.rows = list(pad_sequence(list(columns.split(self.counts)), batch_first=True).unbind())

    def in_planes(self, f: Tensor) -> Tensor:
        """Fields (..., nx, planes, nz) filtered along x and z, any planes."""
        for d in (2, 0):
            if d in self.matrices:
                f = apply_matrix(self.matrices[d], f, d)
        return f

    def across_planes(self, f: Tensor) -> Tensor:
        """Fields of all this rank's planes filtered along y, on this rank's share of the coarse planes (collective).

        No rank holds a whole field; it may have no coarse plane at all.
        """
        own = self.decomposition.sum_for_each(lambda rank: apply_matrix(self.rows[rank], f, 1))
        return own.narrow(DIM[1], 0, self.counts[self.decomposition.rank])

    def over_planes(self, local: Tensor) -> Tensor:
        """The mean over all coarse planes of means over those of this rank, whatever they are if it has none."""
        share = self.counts[self.decomposition.rank] / sum(self.counts)
        return self.decomposition.sum(local * share if share else torch.zeros_like(local))


def averages(
    cutoff: CutoffFilter,
    operators: Operators,
    fields: Sequence[Tensor],
    count: int,
    products: Callable[[list[Tensor]], Tensor],
    means: Callable[[Tensor], list[Tensor]],
) -> list[Tensor]:
    """Means over the filtered directions of what filtered products amount to (collective).

    Slab by slab of planes, so that the `count` fields that `products` makes of `fields` stay in cache; `means` gets
    them filtered, as one tensor.
    """
    slabs = []
    for first, size in operators.slabs(count):
        slabs.append(cutoff.in_planes(products([f.narrow(DIM[1], first, size) for f in fields])))
    if 1 in cutoff.matrices:
        return list(cutoff.over_planes(torch.stack(means(cutoff.across_planes(join(slabs, 1))))).unbind())
    return [torch.cat(parts, DIM[1]) for parts in zip(*(means(f) for f in slabs), strict=True)]
