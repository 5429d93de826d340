"""A grid as one rank has it: sizes, wavenumbers and weights of its part; what goes between a part and the whole."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from solver.discretisation.fft import Wanted
from solver.discretisation.staggered import DIM, Metric, above, mean, y_slowest
from solver.errors import CaseError
from solver.grid.axis import FiniteVolumeAxis
from solver.grid.grid import Grid
from solver.parallel import memory
from solver.parallel.slabs import Slabs

Components = tuple[Tensor, Tensor, Tensor]


class RankGrid:
    """The part of a grid that one rank has.

    Parameters
    ----------
    grid, decomposition : the global grid and its slabs.
    device, dtype : where the fields live and their precision.
    members : of a batch of flows, which are dimension -4 of all fields; None for a single flow, without it. What is one
        number of a flow then is (members, 1, 1, 1), so that it broadcasts over fields.
    engine : of transforms, see `solver.discretisation.fft.choose_engine`.

    Attributes
    ----------
    wavenumber, rotation : of each Fourier axis, ``k``, and the factor of ``i k`` on real and imaginary parts.
    squared_wavenumber : sum of the squares, y slowest in memory.
    metric : sizes along each axis of finite volumes.
    total, largest : sum over all entries that this rank has of a field, and the largest of a physical one; of a batch
        those of each flow.

    Raises
    ------
    CaseError : this machine cannot hold the flow; a batch with other axes than Fourier, finite volumes, Fourier.
    """

    def __init__(
        self,
        grid: Grid,
        decomposition: Slabs,
        device: torch.device,
        dtype: torch.dtype,
        members: int | None = None,
        engine: Wanted = "auto",
    ) -> None:
        if device.type == "cpu":
            memory.require_for(grid, decomposition.size, dtype.itemsize, members or 1)
        if members is not None and [axis.is_fourier for axis in grid.axes] != [True, False, True]:
            raise CaseError("[grid] a batch of flows needs Fourier axes in x and z and finite volumes in y")
        self.grid, self.decomposition = grid, decomposition
        self.device, self.dtype, self.members, self.engine = device, dtype, members, engine
        self.total: Callable[[Tensor], Tensor] = torch.sum if members is None else _total_of_each
        self.largest: Callable[[Tensor], Tensor] = torch.amax if members is None else _largest_of_each
        self.volume_axes = tuple(grid.volume_axes)
        self.local_wavenumbers = {d: self._local_modes(k, d) for d, k in grid.wavenumbers.items()}
        self.wavenumber = {d: self.along(k, d) for d, k in self.local_wavenumbers.items()}
        sign = self.tensor([-1.0, 1.0] if grid.x.is_fourier else [0.0])[:, None, None, None]
        self.sign = sign if members is None else sign[:, None]
        self.rotation = {d: self.sign * k for d, k in self.wavenumber.items()}
        start = self.tensor(np.zeros((1, 1, 1)))
        self.squared_wavenumber = y_slowest(sum((k**2 for k in self.wavenumber.values()), start=start))
        self.metric = {d: self._metric(d, line) for d, line in grid.volume_axes.items()}

    def _local_modes(self, k: np.ndarray, axis: int) -> np.ndarray:
        return k[self.decomposition.modes] if axis == 0 and self.grid.y.is_fourier else k

    def tensor(self, values: object) -> Tensor:
        """A tensor of this run's precision on its device; a number is made there, so that nothing is sent."""
        if isinstance(values, int | float):
            return torch.full((), values, dtype=self.dtype, device=self.device)
        return torch.as_tensor(np.array(values), dtype=self.dtype, device=self.device)

    def scatter(self, field: np.ndarray) -> Tensor:
        """This rank's part of a global coefficient field (parts, cx, cy, cz), y slowest in memory."""
        slabs = self.decomposition
        local = field[:, slabs.modes] if self.grid.y.is_fourier else field[:, :, slabs.planes]
        return y_slowest(self.tensor(local))

    def gather(self, field: Tensor) -> np.ndarray | None:
        """The global coefficient field on the root, None elsewhere."""
        if self.grid.y.is_fourier:
            whole = self.decomposition.gather_planes(field.transpose(-3, -2))
            return None if whole is None else whole.transpose(-3, -2).numpy()
        whole = self.decomposition.gather_planes(field)
        return None if whole is None else whole.numpy()

    def along(self, values: np.ndarray, axis: int) -> Tensor:
        """A 1-D array shaped to broadcast along `axis`."""
        shape = [1, 1, 1]
        shape[axis] = -1
        return self.tensor(values).reshape(shape)

    def local(self, values: np.ndarray, axis: int, extra: int = 0) -> np.ndarray:
        """This rank's part of a 1-D array along `axis`; `extra` more entries (faces, ghosts) for y."""
        if axis != 1:
            return values
        planes = self.decomposition.planes
        return values[planes.start : planes.stop + extra]

    def _metric(self, axis: int, line: FiniteVolumeAxis) -> Metric:
        padded = line.padded_width
        weight = padded[1:-1] / (padded[1:-1] + padded[2:])
        return Metric(
            width=self.along(self.local(line.width, axis), axis),
            padded_width=self.along(self.local(padded, axis, 2), axis),
            spacing=self.along(self.local(line.spacing, axis, 1), axis),
            weight_below=self.along(self.local(weight, axis), axis),
        )

    def inner(self, f: Tensor, *but: int) -> Tensor:
        """A padded field without its ghosts, except for those along the axes `but`."""
        for axis in self.volume_axes:
            if axis not in but:
                f = f.narrow(DIM[axis], 1, f.shape[DIM[axis]] - 2)
        return f

    def at_centres(self, f: Tensor, along: int, *but: int) -> Tensor:
        """A padded field at the centres 1 .. n+1 along a finite-volume `along`, 1 .. n elsewhere; axes `but` stay."""
        for axis in self.volume_axes:
            if axis not in but:
                f = f.narrow(DIM[axis], 1, f.shape[DIM[axis]] - (1 if axis == along else 2))
        return f

    def to_faces(self, f: Tensor, i: int) -> Tensor:
        """A padded centred field where u_i lives, by the mean of the cells on both sides."""
        f = self.inner(f, i)
        return above(mean(f, i), i) if i in self.volume_axes else f

    def free_faces(self, axis: int) -> Tensor | None:
        """1 at faces through which fluid may pass, 0 at the upper end; None along periodic axes."""
        line = self.grid.axes[axis]
        if line.periodic:
            return None
        mask = np.ones(line.points)
        mask[-1] = 0.0
        return self.along(self.local(mask, axis), axis)

    @cached_property
    def local_shape(self) -> tuple[int, int, int]:
        """Points of this rank."""
        nx, _, nz = self.grid.shape
        return nx, self.decomposition.local_ny, nz

    def coordinates(self, component: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Local x, y, z of the points where a velocity component lives (None: cell centres), shaped to broadcast."""
        result = []
        for axis, line in enumerate(self.grid.axes):
            values = line.faces[1:] if axis == component and isinstance(line, FiniteVolumeAxis) else line.centres
            result.append(self.along(self.local(values, axis), axis))
        return result[0], result[1], result[2]

    @cached_property
    def mode_weight(self) -> Tensor:
        """Weights that make a sum over coefficients the volume mean of a product (Parseval)."""
        weight = torch.ones((1, 1, 1), dtype=self.dtype, device=self.device)
        if self.grid.x.is_fourier:
            weight = torch.where(self.wavenumber[self.grid.half_axis] > 0, 2.0, 1.0).to(self.dtype)
        for axis in self.volume_axes:
            weight = weight * self.metric[axis].width / self.grid.axes[axis].length
        return weight

    def inner_product(self, a: Tensor, b: Tensor, component: int | None = None) -> Tensor:
        """Volume mean of the product of two coefficient fields living at centres (None) or where a component lives."""
        weight = self.mode_weight
        if component in self.volume_axes:
            metric = self.metric[component]
            weight = weight / metric.width * above(metric.spacing, component)
        return self.decomposition.sum(self.total(a * b * weight))

    @cached_property
    def zero(self) -> Tensor:
        """A number of a flow, of each in a batch."""
        return self.tensor(0.0) if self.members is None else self.tensor(np.zeros((self.members, 1, 1, 1)))

    def norm(self, field: Components) -> Tensor:
        """Root of the volume mean of the square of a vector field, coefficients where its components live."""
        u, v, w = (self.inner_product(f, f, i) for i, f in enumerate(field))
        return (u + v + w).sqrt()


def _total_of_each(f: Tensor) -> Tensor:
    return f.sum([d for d in range(f.ndim) if d != f.ndim - 4]).view(-1, 1, 1, 1)


def _largest_of_each(f: Tensor) -> Tensor:
    return f.amax(DIM, keepdim=True)
