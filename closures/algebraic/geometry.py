"""What a closure needs to know about a grid, local to a rank: filter widths and the distance to the walls."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from closures.algebraic.invariants import safe_sqrt
from solver.discretisation.calculus import Components, Operators
from solver.discretisation.staggered import DIM, below, join, mean
from solver.discretisation.velocity import Velocity
from solver.grid.axis import NoSlip
from solver.grid.grid import Grid

T = TypeVar("T")


class PerGrid(Generic[T]):
    """Remembers a function of the operators: equal operators, equal answer, so a closure stays a value."""

    def __init__(self, function: Callable[[Operators], T]) -> None:
        self.function = function
        self._known: WeakKeyDictionary[Operators, T] = WeakKeyDictionary()

    def __call__(self, operators: Operators) -> T:
        """The value for this grid and rank."""
        value = self._known.get(operators)
        if value is None:
            with torch.no_grad():  # it may be asked for first while gradients between ranks are recorded
                value = self._known[operators] = self.function(operators)
        return value


def local_part(operators: Operators, values: np.ndarray) -> Tensor:
    """This rank's part of an array that broadcasts to the global (nx, ny, nz)."""
    part = values if values.shape[1] == 1 else values[:, operators.decomposition.planes]
    return operators.tensor(part)


def filter_width(operators: Operators) -> Tensor:
    """``delta = (dx dy dz)^(1/3)``, broadcastable to the local field."""
    return local_part(operators, operators.grid.delta)


def axis_widths(operators: Operators) -> tuple[Tensor, Tensor, Tensor]:
    """Filter width along x, y and z, each broadcastable to the local field: one number along Fourier axes."""
    widths = [np.atleast_1d(axis.resolution) for axis in operators.grid.axes]
    for d in operators.volume_axes:
        widths[d] = operators.local(widths[d], d)
    dx, dy, dz = (operators.along(w, d) for d, w in enumerate(widths))
    return dx, dy, dz


def walls(grid: Grid) -> list[tuple[int, bool, NoSlip]]:
    """The no-slip walls: axis, whether it is the upper end, and the boundary."""
    return [
        (d, upper, end)
        for d, axis in grid.volume_axes.items()
        for upper, end in ((False, axis.lower), (True, axis.upper))
        if isinstance(end, NoSlip)
    ]


def wall_distance(operators: Operators) -> Tensor:
    """Distance of the cell centres to the nearest no-slip wall, infinite where there is none."""
    nearest = np.full((1, 1, 1), np.inf)
    for d, upper, _ in walls(operators.grid):
        axis = operators.grid.volume_axes[d]
        distance = axis.faces[-1] - axis.centres if upper else axis.centres - axis.faces[0]
        nearest = np.minimum(nearest, distance.reshape([-1 if k == d else 1 for k in range(3)]))
    return local_part(operators, nearest)


def extended(f: Tensor, operators: Operators, planes: int) -> Tensor:
    """A field (..., nx, local ny, nz) with `planes` more at both ends of y: the neighbours', or at a wall the last one.

    How a closure with ``reach > 0`` sees beyond its slab (collective); what broadcasts along y stays as it is.

    Raises
    ------
    CaseError : a neighbour has fewer planes.
    """
    if not planes or f.shape[-2] == 1:
        return f
    below, above = operators.decomposition.halo(f, planes)
    copies = torch.Size((*f.shape[:-2], planes, f.shape[-1]))
    below = f[..., :1, :].expand(copies) if below is None else below
    above = f[..., -1:, :].expand(copies) if above is None else above
    return join([below, f, above], 1)


def mean_wall_shear(velocity: Velocity) -> Tensor:
    """Mean over the no-slip walls of ``|d u_parallel / d n|``, in 1/time; the same on every rank.

    The average along Fourier axes is taken before the magnitude, that along finite-volume axes after it. The slope
    is that of the scheme: between the first centre and its ghost, whose mean is the velocity of the wall.
    """
    operators = velocity.operators
    padded = velocity.padded_coefficients  # exchanges halos when first read, so on every rank, wall or not
    total, area = operators.zero, 0.0
    for d, upper, _ in walls(operators.grid):
        area += math.prod(axis.length for k, axis in enumerate(operators.grid.axes) if k != d)
        if d != 1 or (operators.decomposition.above if upper else operators.decomposition.below) is None:
            total = total + _wall_integral(operators, padded, d, upper)
    return operators.decomposition.sum(total) / area


def wall_shear(velocity: Velocity) -> Tensor:
    """``d u_i / d n`` at each no-slip wall, averaged over it: (walls, 3, ...) in the order of `walls`, in 1/time.

    n points along the axis at both ends. The same on every rank; the mean is that of the vector, not of its magnitude.
    """
    operators = velocity.operators
    padded = velocity.padded_coefficients
    rows = []
    for d, upper, _ in walls(operators.grid):
        row = [operators.zero] * 3
        if d != 1 or (operators.decomposition.above if upper else operators.decomposition.below) is None:
            area = math.prod(axis.length for k, axis in enumerate(operators.grid.axes) if k != d)
            for i, slope in _wall_slopes(operators, padded, d, upper).items():
                row[i] = _over_wall(operators, slope, d) / area
        rows.append(torch.stack(row))
    return operators.decomposition.sum(torch.stack(rows))


def _wall_slopes(operators: Operators, padded: Components, axis: int, upper: bool) -> dict[int, Tensor]:
    """Slopes across this rank's part of one wall of the components along it, averaged along Fourier axes."""
    dim = DIM[axis]
    gap = operators.metric[axis].spacing.narrow(dim, -1 if upper else 0, 1)
    slopes = {}
    for component, f in enumerate(padded):
        if component == axis:
            continue
        line = operators.mean_mode(f)
        line = operators.inner(line, axis, component)
        if component in operators.volume_axes:
            line = mean(below(line, component), component)
        near = line.narrow(dim, line.shape[dim] - 2 if upper else 0, 2)
        slopes[component] = (near.narrow(dim, 1, 1) - near.narrow(dim, 0, 1)) / gap
    return slopes


def _over_wall(operators: Operators, f: Tensor, axis: int) -> Tensor:
    """Integral over this rank's part of one wall of what is averaged along Fourier axes."""
    for other, line_axis in enumerate(operators.grid.axes):
        if other in operators.volume_axes and other != axis:
            f = f * operators.metric[other].width
        elif other != axis:
            f = f * line_axis.length
    return operators.total(f)


def _wall_integral(operators: Operators, padded: Components, axis: int, upper: bool) -> Tensor:
    """Integral of the shear rate over this rank's part of one wall."""
    squares = operators.tensor(0.0)
    for slope in _wall_slopes(operators, padded, axis, upper).values():
        squares = squares + slope * slope
    return _over_wall(operators, safe_sqrt(squares), axis)
