"""Physical fields <-> coefficients: Fourier along Fourier axes, values along finite-volume axes.

A coefficient field is real with a leading dimension of *parts*: (re, im) where any axis is Fourier, one part
otherwise, so that pointwise kernels fuse and products in y are real matrix products. Mode 0 is the mean. All fields
keep y slowest in memory, whatever the index order says.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from solver.discretisation.fft import choose_engine
from solver.grid.grid import Grid
from solver.parallel.slabs import Slabs


class Transform:
    """Transforms of one grid; physical arrays ``(nx, planes, nz)``, coefficients ``(parts, cx, planes or cy, cz)``.

    In a batch of `members` flows these are dimension -4 of both, and all of their planes are transformed as one field.
    """

    def __init__(self, grid: Grid, decomposition: Slabs, members: int | None = None) -> None:
        self.grid, self.decomposition, self.members = grid, decomposition, members
        self.fourier = tuple(axis.is_fourier for axis in grid.axes)
        self.parts = 2 if self.fourier[0] else 1
        self.highest = {d: axis.highest_mode for d, axis in grid.fourier_axes.items()}
        self._factors: dict[tuple[int, torch.device, torch.dtype], Tensor] = {}

    def to_coefficients(self, f: Tensor) -> Tensor:
        """Forward transform with truncation to the retained modes."""
        modes = PlaneModes(self, f.shape[-2])
        modes.add(f)
        return self.along_y(modes.whole)

    def along_y(self, kept: Tensor) -> Tensor:
        """What remains to be done with `PlaneModes`: the transform along y where that is a Fourier axis."""
        return self.all_along_y([kept])[0]

    def all_along_y(self, kept: Sequence[Tensor]) -> list[Tensor]:
        """`along_y` of several fields, which ranks exchange at once."""
        if not self.fourier[1]:
            return list(kept)
        columns = [f.transpose(0, 1) for f in self.decomposition.all_to_modes(kept)]
        return [choose_engine(f).column_modes(f, self.highest[1]).transpose(1, 2) for f in columns]

    def to_physical(self, coefficients: Tensor) -> Tensor:
        """Inverse transform onto the points of the grid (any number of planes along a finite-volume y)."""
        if not self.fourier[0]:
            return coefficients[0]
        if self.fourier[2]:
            return self.with_derivatives(coefficients, ())[0]
        c, engine = coefficients.transpose(1, 2), choose_engine(coefficients)
        return engine.irfftn(torch.complex(c[0], c[1]), self.grid.x.points, (1,)).transpose(0, 1)

    def with_derivatives(self, coefficients: Tensor, along: Sequence[int]) -> list[Tensor]:
        """`to_physical` where x and z are Fourier axes, then the derivatives along x (0) and z (2), as far as listed.

        Cheaper than one by one: they share copies and passes.
        """
        return self.of_planes(self.in_planes([coefficients])[0], along)

    def in_planes(self, fields: Sequence[Tensor]) -> list[Tensor]:
        """What `of_planes` takes, of coefficients: modes in x and z, values along y; ranks exchange all at once."""
        if self.members is not None:
            return [f.transpose(-3, -2).flatten(1, 2) for f in fields]
        if not self.fourier[1]:
            return [f.transpose(1, 2) for f in fields]
        columns = [choose_engine(f).column_values(f.transpose(1, 2), self.grid.y.points) for f in fields]
        return [f.transpose(0, 1) for f in self.decomposition.all_to_planes([c.transpose(0, 1) for c in columns])]

    def of_planes(self, c: Tensor, along: Sequence[int]) -> list[Tensor]:
        """`with_derivatives` of what `in_planes` gives."""
        engine, grid = choose_engine(c), self.grid
        ikx = self._factor(0, c) if 0 in along else None
        ikz = self._factor(2, c) if 2 in along else None
        fields = engine.plane_fields(c, grid.x.points, grid.z.points, ikx, ikz)
        if self.members is None:
            return [f.transpose(0, 1) for f in fields]
        return [f.unflatten(0, (self.members, -1)).transpose(-3, -2) for f in fields]

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
    """The forward transform within y planes, a slab of planes at a time; `Transform.along_y` does the rest.

    Parameters
    ----------
    transform : of the grid.
    planes : how many planes of a flow there will be in all.
    """

    def __init__(self, transform: Transform, planes: int) -> None:
        self.transform, self.planes, self.done = transform, planes * (transform.members or 1), 0
        self._stored: Tensor | None = None

    def add(self, f: Tensor) -> None:
        """Transform the next planes, (nx, some, nz); all of them at once in a batch, or if a gradient is recorded."""
        f = f.transpose(-3, -2)
        f = f if self.transform.members is None else f.flatten(0, 1)
        if self._stored is None:
            self._stored = self._allocate(f)
        part = self._stored.narrow(-3, self.done, len(f))
        modes = self._modes(f, part)
        self.done += len(f)
        if modes is part or len(f) == self.planes:
            self._stored = self._stored if modes is part else modes
        else:
            part.copy_(modes)

    @property
    def whole(self) -> Tensor:
        """All planes: coefficients, or complex modes (cx, planes, cz) where y is a Fourier axis."""
        assert self._stored is not None
        assert self.done == self.planes
        members, whole = self.transform.members, self._stored
        return (whole if members is None else whole.unflatten(-3, (members, -1))).transpose(-3, -2)

    def _allocate(self, f: Tensor) -> Tensor:
        """Storage with y first; fluxes have one more entry along their finite-volume direction."""
        fourier, modes = self.transform.fourier, self.transform.grid.coefficient_shape
        cx, cz = modes[0] if fourier[0] else f.shape[1], modes[2] if fourier[2] else f.shape[2]
        if fourier[1]:
            return f.new_empty((self.planes, cx, cz), dtype=torch.promote_types(f.dtype, torch.complex64))
        return f.new_empty((self.transform.parts, self.planes, cx, cz))

    def _modes(self, f: Tensor, out: Tensor) -> Tensor:
        """Modes of (planes, nx, nz); `out` itself where the engine can write to it."""
        fourier, highest = self.transform.fourier, self.transform.highest
        if not fourier[0]:
            return f[None]
        if not fourier[2]:  # duct: half spectrum in x alone
            return torch.view_as_real(choose_engine(f).rfftn(f, (1,))[:, : highest[0] + 1]).movedim(-1, 0)
        return choose_engine(f).plane_modes(f, (highest[0], highest[2]), out)
