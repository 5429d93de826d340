"""Positive filters over three neighbours: the box of the test level, and that of the grid itself."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from closures.algebraic.geometry import PerGrid, extended
from solver.discretisation.calculus import Operators
from solver.discretisation.staggered import DIM, above, below, inner, join
from solver.grid.axis import Array, FiniteVolumeAxis
from solver.grid.grid import Grid

THIRD = 1.0 / 3.0
SIMPSON = 1.0 / 6.0
Side = float | tuple[Array, Array]


def sides_of_test_filter(grid: Grid) -> dict[int, Side]:
    """The box of width 2 delta, along the directions in which the grid is even; along all cells where there are none.

    Along Fourier directions the moving average, because products live on 3/2 as many points as modes; along cells,
    whose width is delta, the box by Simpson's rule, (1, 4, 1) / 6 (Lund 1997, Annu. Res. Briefs CTR, 83, on discrete
    widths), on uneven ones with weights that keep its second and have no first moment, so that the filter commutes
    with differences to second order (Vasilyev, Lund & Moin 1998, J. Comput. Phys. 146, 82).
    """
    sides: dict[int, Side] = {d: THIRD for d, axis in grid.fourier_axes.items() if axis.highest_mode > 0}
    if not sides:
        sides = {d: SIMPSON for d, axis in grid.volume_axes.items() if axis.periodic and axis.uniform}
    return sides or {d: cell_sides(axis) for d, axis in grid.volume_axes.items()}


def cell_sides(axis: FiniteVolumeAxis) -> tuple[Array, Array]:
    """Weights of the lower and the upper neighbour of each cell, of the box of twice its width."""
    lower, upper = axis.spacing[:-1], axis.spacing[1:]
    moment = axis.width**2 / (3.0 * (lower + upper))
    return moment / lower, moment / upper


class BoxFilter:
    """Weighted means of three points along some directions; beyond a wall or an open end is a copy of the last cell.

    Parameters
    ----------
    sides : by direction the weight of both neighbours, or of the lower and of the upper one for each cell.
    """

    def __init__(self, sides: Mapping[int, Side]) -> None:
        self.sides = dict(sides)
        self.reach = 1 if 1 in self.sides else 0
        self.weights = PerGrid(self._weights)

    def _weights(self, operators: Operators) -> dict[int, float | tuple[Tensor, Tensor]]:
        def local(side: Side, d: int) -> float | tuple[Tensor, Tensor]:
            if isinstance(side, float):
                return side
            lower, upper = (operators.along(operators.local(w, d), d) for w in side)
            return lower, upper

        return {d: local(side, d) for d, side in self.sides.items()}

    def __call__(self, fields: list[Tensor], operators: Operators) -> list[Tensor]:
        """The filtered fields (nx, local ny, nz); collective where y is filtered."""
        for d, side in self.weights(operators).items():
            wide = with_ends(fields, operators, d)
            fields = [weighted(inner(f, d), lower_of(f, d), upper_of(f, d), side) for f in wide]
        return fields


def with_ends(fields: list[Tensor], operators: Operators, axis: int) -> list[Tensor]:
    """Fields with a neighbour more at both ends of `axis`; beyond walls and open ends a copy of the last."""
    if axis == 1:
        edges = torch.stack([torch.cat([f[:, :1], f[:, -1:]], 1) for f in fields])
        wide = extended(edges, operators, 1)
        return [join([e[:, :1], f, e[:, -1:]], 1) for e, f in zip(wide, fields, strict=True)]
    periodic = operators.grid.axes[axis].periodic
    first, last = (0, -1) if periodic else (-1, 0)
    dim, found = DIM[axis], []
    for f in fields:
        ends = {0: f.narrow(dim, 0, 1), -1: f.narrow(dim, f.shape[dim] - 1, 1)}
        found.append(join([ends[last], f, ends[first]], axis))
    return found


def lower_of(f: Tensor, axis: int) -> Tensor:
    """The lower neighbours of what lies inside."""
    return below(below(f, axis), axis)


def upper_of(f: Tensor, axis: int) -> Tensor:
    """The upper neighbours of what lies inside."""
    return above(above(f, axis), axis)


def weighted(middle: Tensor, lower: Tensor, upper: Tensor, side: float | tuple[Tensor, Tensor]) -> Tensor:
    """Neighbours times their weights and the point itself times the rest."""
    if isinstance(side, tuple):
        return middle + side[0] * (lower - middle) + side[1] * (upper - middle)
    return (middle + lower + upper) * side if side == THIRD else (lower + upper) * side + middle * (1.0 - 2.0 * side)
