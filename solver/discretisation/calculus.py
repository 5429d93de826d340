"""Boundary ghosts, transforms, divergence and gradient on any grid, with the conventions of `staggered`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from solver.discretisation.fusion import fused
from solver.discretisation.rank_grid import Components as Components
from solver.discretisation.rank_grid import RankGrid
from solver.discretisation.staggered import DIM, above, difference, edge, join
from solver.discretisation.timers import Timers
from solver.discretisation.transform import PlaneModes, Transform
from solver.grid.axis import Boundary, FreeSlip, Inflow, NoSlip, Outflow
from solver.grid.grid import Grid
from solver.parallel.slabs import Slabs, split_evenly

CACHE_BYTES = 4 * 2**20  # what a core may keep near it


class Operators(RankGrid):
    """The discrete calculus of one grid on one rank: `RankGrid` tells its parameters.

    Attributes
    ----------
    timers : of this rank.
    transform : between coefficients and values.
    inflow : u, v, w at the lower end of x where fluid enters there, each (1, 1, local ny, nz); None for other flows.

    Raises
    ------
    CaseError : see `RankGrid`.
    """

    def __init__(
        self,
        grid: Grid,
        decomposition: Slabs,
        device: torch.device,
        dtype: torch.dtype,
        members: int | None = None,
    ) -> None:
        super().__init__(grid, decomposition, device, dtype, members)
        self.timers = Timers(device)
        self.transform = Transform(grid, decomposition, members)
        self.inflow = self._inflow()

    # -- boundaries ---------------------------------------------------------------------------------------------

    def _inflow(self) -> Components | None:
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
            first, last = [edge(f, axis, 0) for f in padded], [edge(f, axis, -1) for f in padded]
            lower, upper = self.neighbours(torch.stack(last), torch.stack(first), axis)
            for i, f in enumerate(padded):
                ghost_below = self._ghost(first[i], i, axis, line.lower) if lower is None else lower[i]
                ghost_above = self._ghost(last[i], i, axis, line.upper) if upper is None else upper[i]
                padded[i] = join([ghost_below, f, ghost_above], axis)
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

    def _ghost(self, near: Tensor, component: int, axis: int, boundary: Boundary) -> Tensor:
        """What lies beyond an end: the end face itself for a normal component (below; above it is unused)."""
        if isinstance(boundary, Inflow):
            assert self.inflow is not None
            entering = self.inflow[component]
            return entering if component == axis else 2.0 * entering - near
        if component == axis:
            return torch.zeros_like(near)
        if isinstance(boundary, FreeSlip | Outflow):
            return near
        assert isinstance(boundary, NoSlip)
        if not boundary.velocity[component]:
            return -near
        wall = torch.zeros_like(near)
        self.mean_mode(wall).add_(2.0 * boundary.velocity[component])
        return wall - near

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
            first, last = edge(f, axis, 0), edge(f, axis, -1)
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

    def with_derivatives(self, coefficients: Tensor, along: Sequence[int]) -> list[Tensor]:
        """A field on the points of the grid and its derivatives along some Fourier axes, in their order.

        Of the time, the field's own share counts as needed by the step, whoever asks.
        """
        values = len(self.grid.fourier_axes)  # passes of one-dimensional transforms; those in z serve d/dz as well
        passes = [1 if d == 2 else 2 if d == 0 else values for d in along]
        with self.timers("transforms", needed=values / (values + sum(passes)) if values else 1.0):
            shared = [d for d in (0, 2) if d in along and self.grid.half_axis == 2]
            if shared:
                value, *rest = self.transform.with_derivatives(coefficients, shared)
            else:
                value, rest = self.transform.to_physical(coefficients), []
            found = dict(zip(shared, rest, strict=True))
            others = {d: self.derivative(coefficients, d) for d in along if d not in found}
            found |= {d: self.transform.to_physical(c) for d, c in others.items()}
            return [value, *(found[d] for d in along)]

    def all_with_derivatives(self, fields: Sequence[Tensor], along: Sequence[Sequence[int]]) -> list[list[Tensor]]:
        """`with_derivatives` of several coefficient fields; in a box, ranks exchange all that they need at once."""
        if not self.grid.y.is_fourier or self.decomposition.size == 1:
            return list(map(self.with_derivatives, fields, along))
        transform, columns = self.transform, [axes for axes in along if 1 in axes]
        passes = sum(3 + sum({0: 2, 1: 3, 2: 1}[d] for d in axes) for axes in along)  # see `with_derivatives`
        with self.timers("transforms", needed=3 * len(fields) / passes):
            slopes = [self.derivative(f, 1) for f, axes in zip(fields, along, strict=True) if 1 in axes]
            planes = iter(transform.in_planes([*fields, *slopes]))
            shared = [[d for d in (0, 2) if d in axes] for axes in along]
            values = [transform.of_planes(next(planes), axes) for axes in shared]
            across = iter([transform.of_planes(next(planes), ())[0] for _ in columns])
        result = []
        for axes, some, (value, *rest) in zip(along, shared, values, strict=True):
            found = dict(zip(some, rest, strict=True)) | ({1: next(across)} if 1 in axes else {})
            result.append([value, *(found[d] for d in axes)])
        return result

    def to_coefficients(self, f: Tensor) -> Tensor:
        """Coefficients of a physical field, truncated to the retained modes."""
        with self.timers("transforms"):
            return self.transform.to_coefficients(f)

    def slabs(self, fields: int) -> list[tuple[int, int]]:
        """First plane and number of planes of slabs of which so many physical fields stay in a core's cache.

        One slab on a GPU, of a batch, and where a gradient is recorded.
        """
        nx, ny, nz = self.local_shape
        if self.device.type != "cpu" or torch.is_grad_enabled() or self.members is not None:
            return [(0, ny)]
        planes = max(CACHE_BYTES // (fields * nx * nz * self.dtype.itemsize), 1)
        sizes = split_evenly(ny, -(-ny // planes))
        return list(zip(np.cumsum([0, *sizes[:-1]]).tolist(), sizes, strict=True))

    def slabs_to_coefficients(self, slabs: Iterable[list[Tensor]], planes: list[int]) -> list[Tensor]:
        """`to_coefficients` of fields that come slab by slab, so many `planes` of each in all."""
        fields = [PlaneModes(self.transform, n) for n in planes]
        for slab in slabs:
            with self.timers("transforms"):
                for modes, f in zip(fields, slab, strict=True):
                    modes.add(f)
        with self.timers("transforms"):
            return self.transform.all_along_y([modes.whole for modes in fields])

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
            first, last = edge(velocity[axis], axis, 0), edge(velocity[axis], axis, -1)
            lower = below if axis == 1 else self.neighbours(last, first, axis)[0]
            if lower is None:
                lower = self._ghost(first, axis, axis, self.grid.volume_axes[axis].lower)
            lowered[axis] = join([lower, velocity[axis]], axis)
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
            upper = beyond if axis == 1 else None
            if upper is None:
                first, last = edge(potential, axis, 0), edge(potential, axis, -1)
                upper = self.decomposition.from_above(first) if axis == 1 else self.neighbours(last, first, axis)[1]
                upper = last if upper is None else upper
            raised[axis] = join([potential, upper], axis)
        return self._subtract_gradient(*velocity, *raised)

    @fused
    def _subtract_gradient(self, u: Tensor, v: Tensor, w: Tensor, *potential: Tensor) -> Components:
        def gradient(d: int) -> Tensor:
            if d in self.volume_axes:
                return difference(potential[d], d) / above(self.metric[d].spacing, d)
            return self.derivative(potential[d], d)

        return u - gradient(0), v - gradient(1), w - gradient(2)


def _mirror_sign(end: Boundary, at_wall: float, odd: bool) -> float:
    """By which a centred field beyond an end is that before it."""
    if isinstance(end, NoSlip):
        return at_wall
    return -1.0 if odd and isinstance(end, FreeSlip) else 1.0
