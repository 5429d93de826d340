"""Boundary ghosts, transforms, divergence and gradient on any grid, with the conventions of `staggered`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from solver.discretisation.fusion import fused
from solver.discretisation.rank_grid import Components as Components
from solver.discretisation.rank_grid import RankGrid
from solver.discretisation.staggered import DIM, above, difference, edge, ends, join
from solver.discretisation.timers import Timers
from solver.discretisation.transform import PlaneModes, Transform, WithDerivatives
from solver.grid.axis import Boundary, FreeSlip, Inflow, NoSlip
from solver.parallel.slabs import split_evenly

CACHE_BYTES = 4 * 2**20  # what a core may keep near it
PASSES = {0: 2, 1: 3, 2: 1}  # of one-dimensional transforms that a derivative needs besides those of the field


class Operators(RankGrid):
    """The discrete calculus of one grid on one rank: `RankGrid` tells its parameters."""

    @cached_property
    def timers(self) -> Timers:
        """Of this rank."""
        return Timers(self.device)

    @cached_property
    def transform(self) -> Transform:
        """Between coefficients and values."""
        return Transform(self.grid, self.decomposition, self.members, self.engine)

    # -- boundaries ---------------------------------------------------------------------------------------------

    @cached_property
    def inflow(self) -> Components | None:
        """u, v, w at the lower end of x where fluid enters there, each (1, 1, local ny, nz); None for other flows."""
        lower = self.grid.volume_axes[0].lower if self.grid.is_open else None
        if not isinstance(lower, Inflow):
            return None
        profile = lower.factor(self.grid.volume_axes[1].faces)[:, None]
        even = np.ones((1, 1, *self.grid.shape[1:]))
        u, v, w = lower.velocity
        return self.scatter(u * profile * even), self.scatter(v * even), self.scatter(w * even)

    @property
    def inflow_speed(self) -> float:
        """Largest u that enters, 0 where nothing does."""
        return float(self.decomposition.max(self.inflow[0].max())) if self.inflow else 0.0

    def pad(self, velocity: Components) -> Components:
        """Velocity coefficients with ghosts on every finite-volume axis."""
        padded = list(velocity)
        for axis, line in self.grid.volume_axes.items():
            first, last = zip(*[ends(f, axis) for f in padded], strict=True)
            lower, upper = self.neighbours(torch.stack(last), torch.stack(first), axis)
            ghosts_below = self._ghosts(first, axis, line.lower) if lower is None else lower
            ghosts_above = self._ghosts(last, axis, line.upper) if upper is None else upper
            for i, f in enumerate(padded):
                padded[i] = join([ghosts_below[i], f, ghosts_above[i]], axis)
                if i != axis:
                    for end, beyond in ((line.lower, lower), (line.upper, upper)):
                        if isinstance(end, NoSlip) and end.modelled and beyond is None:
                            self._extrapolate(padded[i], axis, end is line.upper)
        return padded[0], padded[1], padded[2]

    def _extrapolate(self, f: Tensor, axis: int, upper: bool) -> None:
        """Set the ghost at one end to what lies on the straight line through its two neighbours."""
        spacing = self.grid.volume_axes[axis].spacing
        ratio = float(spacing[-1] / spacing[-2] if upper else spacing[0] / spacing[1])
        ghost, near, next_one = (edge(f, axis, -1 - k if upper else k) for k in range(3))
        ghost.copy_((1.0 + ratio) * near - ratio * next_one)

    def _ghosts(self, near: Sequence[Tensor], axis: int, end: Boundary) -> list[Tensor]:
        """What lies beyond an end, of each component; of the normal one the end face itself (above it is unused)."""
        ghosts = list(near)
        if isinstance(end, Inflow) and self.inflow:
            ghosts = [2.0 * entering - f for entering, f in zip(self.inflow, near, strict=True)]
        elif isinstance(end, NoSlip):
            for i, f in enumerate(near):
                ghosts[i] = -f
                if end.velocity[i]:
                    wall = torch.zeros_like(f)
                    self.mean_mode(wall).add_(2.0 * end.velocity[i])
                    ghosts[i] = wall - f
        ghosts[axis] = self._end_face(near[axis], axis, end)
        return ghosts

    def _end_face(self, near: Tensor, axis: int, end: Boundary) -> Tensor:
        """The normal component at the lower end of an axis."""
        return self.inflow[axis] if isinstance(end, Inflow) and self.inflow else torch.zeros_like(near)

    def neighbours(self, last: Tensor, first: Tensor, axis: int) -> tuple[Tensor | None, Tensor | None]:
        """What precedes this rank's first entry along `axis` and follows its last, given everybody's; None at ends."""
        if axis == 1:
            return self.decomposition.neighbours(last, first)
        return (last, first) if self.grid.axes[axis].periodic else (None, None)

    def pad_scalar(self, f: Tensor, at_wall: float = 1.0, odd: Sequence[int] = ()) -> Tensor:
        """A centred field with ghosts; a no-slip wall mirrors it times `at_wall` (-1: zero at the wall).

        A free-slip end of an axis in `odd` mirrors it with the other sign.
        """
        for axis, line in self.grid.volume_axes.items():
            first, last = ends(f, axis)
            lower, upper = self.neighbours(last, first, axis)
            if lower is None:
                lower = first * _mirror_sign(line.lower, at_wall, axis in odd)
            if upper is None:
                upper = last * _mirror_sign(line.upper, at_wall, axis in odd)
            f = join([lower, f, upper], axis)
        return f

    def mean_mode(self, f: Tensor) -> Tensor:
        """View of the part of a coefficient field that carries the mean over the Fourier axes.

        Empty on the ranks of a box that do not own mode 0.
        """
        view = f[:1]
        for axis in self.grid.fourier_axes:
            owned = axis > 0 or not self.grid.y.is_fourier or self.decomposition.modes.start == 0
            view = view.narrow(DIM[axis], 0, 1 if owned else 0)
        return view

    def to_physical(self, coefficients: Tensor) -> Tensor:
        """Values on the points of the grid."""
        with self.timers("transforms"):
            return self.transform.to_physical(coefficients)

    def with_derivatives(self, coefficients: Tensor, along: Sequence[int]) -> WithDerivatives:
        """`all_with_derivatives` of one field."""
        return self.all_with_derivatives([coefficients], [along])[0]

    def all_with_derivatives(self, fields: Sequence[Tensor], along: Sequence[Sequence[int]]) -> list[WithDerivatives]:
        """Fields on the points of the grid, each with its derivatives along the Fourier axes that are listed for it.

        Ranks exchange all that they need at once. Of the time, the fields' own share counts as needed by the step,
        whoever asks.
        """
        own = len(fields) * len(self.grid.fourier_axes)
        asked = [(i, d) for i, axes in enumerate(along) for d in axes]
        needed = own / (own + sum([PASSES[d] for _, d in asked])) if own else 1.0
        with self.timers("transforms", needed=needed):
            others = [(i, d) for i, d in asked if d not in self.transform.with_values]
            slopes = [self.derivative(fields[i], d) for i, d in others]
            found = self.transform.all_to_physical([*fields, *slopes], [*along, *[()] * len(slopes)])
        for (i, d), (slope, _) in zip(others, found[len(fields) :], strict=True):
            found[i][1][d] = slope
        return found[: len(fields)]

    def to_coefficients(self, f: Tensor) -> Tensor:
        """Coefficients of a physical field, truncated to the retained modes."""
        with self.timers("transforms"):
            return self.transform.to_coefficients(f)

    def slabs(self, fields: int) -> list[tuple[int, int]]:
        """First plane and number of planes of slabs of which so many physical fields stay in the caches of the threads.

        One slab on a GPU, of a batch, and where a gradient is recorded. Slabs are of one size, for which kernels are
        compiled once, where a quarter more of them than needed can be.
        """
        nx, ny, nz = self.local_shape
        if self.device.type != "cpu" or torch.is_grad_enabled() or self.members is not None:
            return [(0, ny)]
        planes = max(torch.get_num_threads() * CACHE_BYTES // (fields * nx * nz * self.dtype.itemsize), 1)
        least = -(-ny // planes)
        count = next((n for n in range(least, least + least // 4 + 1) if ny % n == 0), least)
        sizes = split_evenly(ny, count)
        return list(zip(np.cumsum([0, *sizes[:-1]]).tolist(), sizes, strict=True))

    def slabs_to_coefficients(self, slabs: Iterable[list[Tensor]], planes: list[int]) -> list[Tensor]:
        """`to_coefficients` of fields that come slab by slab, so many `planes` of each in all."""
        modes = PlaneModes(self.transform, planes)
        for slab in slabs:
            with self.timers("transforms"):
                modes.add(slab)
        with self.timers("transforms"):
            return self.transform.all_along_y(modes.whole)

    # -- calculus in coefficient space ----------------------------------------------------------------------------

    def derivative(self, f: Tensor, axis: int) -> Tensor:
        """d/dx_axis of coefficients along a Fourier axis: i k f on (re, im) parts."""
        return self.rotation[axis] * f.flip(0)

    def translated(self, f: Tensor, distance: Tensor) -> Tensor:
        """Coefficients moved by a distance along x, a Fourier axis: ``f(x - distance)``, exactly."""
        phase = self.wavenumber[0] * distance
        return torch.cos(phase) * f - torch.sin(phase) * self.sign * f.flip(0)

    def divergence(self, velocity: Components) -> Tensor:
        """Divergence at centres of unpadded velocity coefficients."""
        below = self.decomposition.from_below(edge(velocity[1], 1, -1)) if 1 in self.volume_axes else None
        return self.divergence_above(velocity, below)

    def divergence_above(self, velocity: Components, below: Tensor | None) -> Tensor:
        """`divergence`, given what v is just below this slab; None at a wall."""
        lowered = list(velocity)
        for axis in self.volume_axes:
            f, line = velocity[axis], self.grid.volume_axes[axis]
            lower = below if axis == 1 else edge(f, axis, -1) if line.periodic else None
            if lower is None:
                lower = self._end_face(edge(f, axis, 0), axis, line.lower)
            lowered[axis] = join([lower, f], axis)
        return self._divergence(*lowered)

    @fused
    def _divergence(self, *velocity: Tensor) -> Tensor:
        terms = [
            difference(velocity[d], d) / self.metric[d].width
            if d in self.volume_axes
            else self.derivative(velocity[d], d)
            for d in range(3)
        ]
        return terms[0] + terms[1] + terms[2]

    def subtract_gradient(self, velocity: Components, potential: Tensor, beyond: Tensor | None = None) -> Components:
        """``velocity - grad potential``; the normal component at ends is left alone (what it is there is given).

        `beyond` is the plane of the potential that follows this slab, which is asked for if it is not given.
        """
        raised = [potential] * 3
        for axis in self.volume_axes:
            if axis != 1:
                upper = edge(potential, axis, 0) if self.grid.axes[axis].periodic else None
            else:
                upper = self.decomposition.from_above(edge(potential, 1, 0)) if beyond is None else beyond
            raised[axis] = join([potential, edge(potential, axis, -1) if upper is None else upper], axis)
        return self._subtract_gradient(*velocity, *raised)

    @fused
    def _subtract_gradient(self, u: Tensor, v: Tensor, w: Tensor, *potential: Tensor) -> Components:
        x, y, z = [
            difference(f, d) / above(self.metric[d].spacing, d) if d in self.volume_axes else self.derivative(f, d)
            for d, f in enumerate(potential)
        ]
        return u - x, v - y, w - z


def _mirror_sign(end: Boundary, at_wall: float, odd: bool) -> float:
    """By which a centred field beyond an end is that before it."""
    if isinstance(end, NoSlip):
        return at_wall
    return -1.0 if odd and isinstance(end, FreeSlip) else 1.0
