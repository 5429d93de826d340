"""Between the solver's velocity and the points of an operator: modes are cut off on the way in, changes added as modes.

The solver forms products on 3/2 times as many points as there are modes, and staggers components along finite-volume
axes; operators live on as many points as modes, at cell centres. What a network does not see it does not change.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from solver.discretisation.calculus import Components, Operators
from solver.discretisation.gradient import VelocityGradient
from solver.discretisation.transform import Transform
from solver.discretisation.velocity import Velocity
from solver.errors import CaseError
from solver.grid.axis import Axis, FourierAxis
from solver.grid.grid import Grid
from solver.parallel.slabs import Slabs

Points = tuple[int | None, int | None, int | None]
OWN: Points = (None, None, None)


@dataclass(frozen=True)
class PlainFourierAxis(FourierAxis):
    """A Fourier axis whose fields have `n` points, whatever products would need."""

    @cached_property
    def points(self) -> int:
        """N."""
        return self.n


def network_grid(grid: Grid, points: Points = OWN) -> Grid:
    """The grid on which an operator sees a flow; `points` along Fourier axes replace those of the case.

    Raises
    ------
    CaseError : other points in a box, whose modes are shared among the ranks.
    """
    if grid.is_box and points != OWN:
        raise CaseError("[closure] in a box an operator acts on the modes of the case: set [grid] n to its own")

    def seen(axis: Axis, n: int | None) -> Axis:
        if not isinstance(axis, FourierAxis):
            return axis
        kept = axis if n is None else replace(axis, n=n)
        return PlainFourierAxis(kept.n, kept.length, kept.dealias)

    x, y, z = (seen(axis, n) for axis, n in zip(grid.axes, points, strict=True))
    return Grid(x, y, z)


class Resampler:
    """Takes a velocity to the points of an operator, and its change back.

    Parameters
    ----------
    operators : of the solver.
    grid : `network_grid` of its grid.
    """

    def __init__(self, operators: Operators, grid: Grid) -> None:
        self.operators, self.grid = operators, grid
        slabs = operators.decomposition
        self.decomposition = Slabs(grid.shape[1], grid.coefficient_shape[0], grid.y.periodic, slabs.communicator)
        self.transform = Transform(grid, self.decomposition, engine=operators.engine)
        self.strain = VelocityGradient(operators)
        self.free = [operators.free_faces(axis) for axis in range(3)]

    def centred(self, velocity: Velocity) -> Tensor:
        """u, v, w at cell centres on the operator's points, (3, nx, local ny, nz)."""
        padded = velocity.padded_coefficients
        fields = [self._resized(self.strain.to_centre(f, i), inwards=True) for i, f in enumerate(padded)]
        with self.operators.timers("transforms"):
            return torch.stack([self.transform.to_physical(f) for f in fields])

    def changed(self, velocity: Components, change: Tensor) -> Components:
        """Coefficients plus a change given as `centred` gives a velocity; nothing passes through walls."""
        u, v, w = (c + self._staggered(f, i) for i, (c, f) in enumerate(zip(velocity, change, strict=True)))
        return u, v, w

    def from_centres(self, values: Tensor) -> Tensor:
        """A scalar on the operator's points, at cell centres, on the solver's, (nx, local ny, nz)."""
        return self.operators.to_physical(self._resized(self.transform.to_coefficients(values), inwards=False))

    def _staggered(self, f: Tensor, component: int) -> Tensor:
        """Coefficients, where a component lives, of values at centres."""
        with self.operators.timers("transforms"):
            c = self._resized(self.transform.to_coefficients(f), inwards=False)
        if component not in self.operators.volume_axes:
            return c
        staggered = self.operators.to_faces(self.operators.pad_scalar(c, at_wall=-1.0), component)
        free = self.free[component]
        return staggered if free is None else staggered * free

    def _resized(self, c: Tensor, inwards: bool) -> Tensor:
        """Coefficients of the solver's grid with the modes of the operator's, or the other way round."""
        ends = (self.operators.grid, self.grid) if inwards else (self.grid, self.operators.grid)
        for d in self.operators.grid.fourier_axes:
            own, wanted = (grid.fourier_axes[d].highest_mode for grid in ends)
            if own != wanted:
                c = _resized_modes(c, d - 3, own, wanted, half=d == self.operators.grid.half_axis)
        return c


def _resized_modes(c: Tensor, dim: int, own: int, wanted: int, half: bool) -> Tensor:
    """Modes up to `wanted` along `dim` of coefficients with those up to `own`: cut off, or zeros added."""
    kept = min(own, wanted)
    shape = list(c.shape)
    shape[dim] = (wanted - kept) * (1 if half else 2)
    parts = [c.narrow(dim, 0, kept + 1), c.new_zeros(shape)]
    if not half:
        parts.append(c.narrow(dim, c.shape[dim] - kept, kept))
    return torch.cat(parts, dim)
