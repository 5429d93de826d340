"""Physical fields <-> coefficients: Fourier along Fourier axes, values along finite-volume axes.

A coefficient field is real with a leading dimension of *parts*: (re, im) where any axis is Fourier, one part
otherwise, so that pointwise kernels fuse and products in y are real matrix products. Mode 0 is the mean. All fields
keep y slowest in memory, whatever the index order says.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from solver.discretisation.fft import Engine, Wanted, choose_engine
from solver.grid.grid import Grid
from solver.parallel.slabs import Slabs

WithDerivatives = tuple[Tensor, dict[int, Tensor]]  # a field and its derivatives by axis, on the points of the grid


class Transform:
    """Transforms of one grid; physical arrays ``(nx, planes, nz)``, coefficients ``(parts, cx, planes or cy, cz)``.

    In a batch of `members` flows these are dimension -4 of both, and all of their planes are transformed as one field.
    `engine` is that of `choose_engine`.
    """

    def __init__(self, grid: Grid, decomposition: Slabs, members: int | None = None, engine: Wanted = "auto") -> None:
        self.grid, self.decomposition, self.members, self.engine = grid, decomposition, members, engine
        self.fourier = tuple(axis.is_fourier for axis in grid.axes)
        self.parts = 2 if self.fourier[0] else 1
        self.with_values = (0, 2) if grid.half_axis == 2 else ()  # axes along which derivatives come at little cost
        self.highest = {d: axis.highest_mode for d, axis in grid.fourier_axes.items()}
        self._factors: dict[tuple[int, torch.device, torch.dtype], Tensor] = {}

    def to_coefficients(self, f: Tensor) -> Tensor:
        """Forward transform with truncation to the retained modes."""
        modes = PlaneModes(self, [f.shape[-2]])
        modes.add([f])
        return self.all_along_y(modes.whole)[0]

    def all_along_y(self, kept: list[Tensor]) -> list[Tensor]:
        """What remains to be done with `PlaneModes`: transforms along y where that is a Fourier axis."""
        if not self.fourier[1]:
            return kept
        columns = [f.transpose(0, 1) for f in self.decomposition.all_to_modes(kept)]
        engine = choose_engine(columns, self.engine)
        return [engine.column_modes(f, self.highest[1]).transpose(1, 2) for f in columns]

    def to_physical(self, coefficients: Tensor) -> Tensor:
        """Inverse transform onto the points of the grid (any number of planes along a finite-volume y)."""
        return self.all_to_physical([coefficients])[0][0]

    def all_to_physical(
        self, fields: Sequence[Tensor], along: Iterable[Sequence[int]] = itertools.repeat(())
    ) -> list[WithDerivatives]:
        """`to_physical` of several fields, which ranks exchange at once.

        Each with its derivatives along those of `with_values` that are listed for it: they share copies and passes.
        """
        engine, nx, nz = choose_engine(fields, self.engine), self.grid.x.points, self.grid.z.points
        if not self.fourier[0]:
            return [(f[0], {}) for f in fields]
        if not self.fourier[2]:
            lines = [torch.complex(f[0], f[1]).transpose(0, 1) for f in fields]
            return [(engine.irfftn(f, nx, (1,)).transpose(0, 1), {}) for f in lines]
        found = []
        for modes, axes in zip(self._in_planes(fields, engine), along, strict=False):
            ikx = self._factor(0, modes) if 0 in axes else None
            ikz = self._factor(2, modes) if 2 in axes else None
            value, ddx, ddz = engine.plane_fields(modes, nx, nz, ikx, ikz)
            slopes = {d: self._of_planes(f) for d, f in ((0, ddx), (2, ddz)) if f is not None}
            found.append((self._of_planes(value), slopes))
        return found

    def _of_planes(self, f: Tensor) -> Tensor:
        """A field with y first as it is elsewhere."""
        return f.transpose(0, 1) if self.members is None else f.unflatten(0, (self.members, -1)).transpose(-3, -2)

    def _in_planes(self, fields: Sequence[Tensor], engine: Engine) -> Iterable[Tensor]:
        """Modes in x and z, values along y, with y first; on one rank of a box one at a time, as they are asked for."""
        if self.members is not None:
            return [f.transpose(-3, -2).flatten(1, 2) for f in fields]
        if not self.fourier[1]:
            return [f.transpose(1, 2) for f in fields]
        columns = (engine.column_values(f.transpose(1, 2), self.grid.y.points) for f in fields)
        if self.decomposition.size == 1:
            return columns
        return [f.transpose(0, 1) for f in self.decomposition.all_to_planes([c.transpose(0, 1) for c in columns])]

    def _factor(self, axis: int, like: Tensor) -> Tensor:
        """`factor` for fields like this one, moved to their device once."""
        key = axis, like.device, like.dtype
        if key not in self._factors:
            kind = torch.promote_types(like.dtype, torch.complex64)
            self._factors[key] = self.factor[axis].to(like.device, kind)
        return self._factors[key]

    @cached_property
    def factor(self) -> dict[int, Tensor]:
        """``i k``: along x on all the modes of an FFT, the discarded ones zero; along z on the retained ones."""
        kx, kz = self.grid.wavenumbers[0], self.grid.wavenumbers[2]
        whole, highest = np.zeros(self.grid.x.points), self.highest[0]
        whole[: highest + 1] = kx[: highest + 1]
        whole[self.grid.x.points - highest :] = kx[highest + 1 :]
        return {0: torch.from_numpy(1j * whole), 2: torch.from_numpy(1j * kz)}


class PlaneModes:
    """The forward transform of fields within y planes, a slab of planes at a time.

    `Transform.all_along_y` does the rest.

    Parameters
    ----------
    transform : of the grid.
    planes : how many planes of a flow each field will have in all.
    """

    def __init__(self, transform: Transform, planes: Sequence[int]) -> None:
        self.transform = transform
        self.planes = [n * (transform.members or 1) for n in planes]
        self.done = [0] * len(planes)
        self._stored: list[Tensor] = []

    def add(self, slab: Sequence[Tensor]) -> None:
        """Transform the next planes of each field, (nx, some, nz).

        All of them come at once in a batch, or if a gradient is recorded.
        """
        transform, engine = self.transform, choose_engine(slab, self.transform.engine)
        fourier, highest = transform.fourier, transform.highest
        self._stored = self._stored or self._allocated(slab)
        for k, f in enumerate(slab):
            f = f.transpose(-3, -2)
            f = f if transform.members is None else f.flatten(0, 1)
            part = self._stored[k].narrow(-3, self.done[k], len(f))
            if not fourier[0]:
                modes = f[None]
            elif fourier[2]:
                modes = engine.plane_modes(f, (highest[0], highest[2]), part)
            else:  # duct: half spectrum in x alone
                modes = torch.view_as_real(engine.rfftn(f, (1,))[:, : highest[0] + 1]).movedim(-1, 0)
            self.done[k] += len(f)
            if modes is part:
                continue
            if len(f) == self.planes[k]:
                self._stored[k] = modes
            else:
                part.copy_(modes)

    def _allocated(self, slab: Sequence[Tensor]) -> list[Tensor]:
        """Storage with y first; fluxes have one more entry along their finite-volume direction."""
        fourier, modes, stored = self.transform.fourier, self.transform.grid.coefficient_shape, []
        for f, planes in zip(slab, self.planes, strict=True):
            shape = planes, modes[0] if fourier[0] else f.shape[-3], modes[2] if fourier[2] else f.shape[-1]
            if fourier[1]:
                stored.append(f.new_empty(shape, dtype=torch.promote_types(f.dtype, torch.complex64)))
            else:
                stored.append(f.new_empty((self.transform.parts, *shape)))
        return stored

    @property
    def whole(self) -> list[Tensor]:
        """All planes: coefficients, or complex modes (cx, planes, cz) where y is a Fourier axis."""
        assert self.done == self.planes
        members, whole = self.transform.members, self._stored
        if members is not None:
            whole = [f.unflatten(-3, (members, -1)) for f in whole]
        return [f.transpose(-3, -2) for f in whole]
