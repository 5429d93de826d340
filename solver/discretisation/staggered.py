"""Neighbours along an axis of staggered fields, and the layout these have in memory.

x, y, z are dimensions -3, -2, -1 of every field. Component i lives at the upper faces of axis i where that axis is
finite-volume. A *padded* field has one ghost entry at each end of every finite-volume axis, so that for n cells centres
run 0 .. n+1 and faces 0 .. n+1 with face p between centres p and p+1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

DIM = (-3, -2, -1)


def below(f: Tensor, axis: int) -> Tensor:
    """All entries but the last along `axis`."""
    return f.narrow(DIM[axis], 0, f.shape[DIM[axis]] - 1)


def above(f: Tensor, axis: int) -> Tensor:
    """All entries but the first along `axis`."""
    return f.narrow(DIM[axis], 1, f.shape[DIM[axis]] - 1)


def inner(f: Tensor, axis: int) -> Tensor:
    """A padded field without its ghosts along `axis`."""
    return f.narrow(DIM[axis], 1, f.shape[DIM[axis]] - 2)


def mean(f: Tensor, axis: int) -> Tensor:
    """Arithmetic mean of neighbours: one entry fewer."""
    dim, n = DIM[axis], f.shape[DIM[axis]] - 1
    return 0.5 * (f.narrow(dim, 0, n) + f.narrow(dim, 1, n))


def difference(f: Tensor, axis: int) -> Tensor:
    """Upper minus lower neighbour: one entry fewer."""
    return f.diff(dim=DIM[axis])


def edge(f: Tensor, axis: int, index: int) -> Tensor:
    """The first (0) or last (-1) entry along `axis`, keeping the dimension."""
    return f.narrow(DIM[axis], index % f.shape[DIM[axis]], 1)


def ends(f: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """The first and the last entry along `axis`, keeping the dimension."""
    dim = DIM[axis]
    return f.narrow(dim, 0, 1), f.narrow(dim, f.shape[dim] - 1, 1)


def join(parts: list[Tensor], axis: int) -> Tensor:
    """Concatenate along `axis`, y slowest in memory."""
    order = (-2, -3, -1)
    return torch.cat([p.transpose(-3, -2) for p in parts], order[axis]).transpose(-3, -2)


def y_slowest(f: Tensor) -> Tensor:
    """The same values with y slowest in memory, the layout every field has."""
    return f.transpose(-3, -2).contiguous().transpose(-3, -2)


def together(fields: Sequence[Tensor]) -> Tensor:
    """Fields of several flows as one of a batch: dimension -4, y slowest in memory within each."""
    return torch.stack([f.transpose(-3, -2) for f in fields], -4).transpose(-3, -2)


@dataclass(frozen=True)
class Metric:
    """Sizes along one finite-volume axis, local to this rank, shaped to broadcast over fields."""

    width: Tensor  # cells, n
    padded_width: Tensor  # n + 2
    spacing: Tensor  # centre to centre over faces 0 .. n, n + 1
    weight_below: Tensor  # share of the lower cell in a volume-weighted mean at upper faces, n

    def narrow(self, axis: int, first: int, size: int) -> Metric:
        """The metric of `size` cells from `first` on, ghosts and end faces included."""
        n = self.width.shape[DIM[axis]]
        parts = (self.width, self.padded_width, self.spacing, self.weight_below)
        return Metric(*(f.narrow(DIM[axis], first, size + f.shape[DIM[axis]] - n) for f in parts))
