"""Where the values of a field lie: coordinates, quadrature weights and what closes each direction.

An operator reads its geometry from here and never from array indices, which is what lets one set of weights act
on another grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from solver.grid.axis import Array, Axis, FourierAxis
from solver.grid.grid import Grid


@dataclass(frozen=True, eq=False)
class Line:
    """One direction of a domain.

    Parameters
    ----------
    points : coordinates of the n values, increasing, from `start`, a length.
    weights : share of the length that each value stands for; they sum to one.
    length : extent, or period.
    periodic : whether the ends are one point; else they are walls (or free surfaces).
    start : coordinate of the lower end.
    """

    points: Tensor
    weights: Tensor
    length: float
    periodic: bool
    start: float = 0.0

    @classmethod
    def of(cls, axis: Axis) -> Line:
        """The cell centres, or spectral points, of one axis of the solver."""
        start = 0.0 if isinstance(axis, FourierAxis) else float(axis.faces[0])
        return cls(
            torch.from_numpy(np.array(axis.centres)),
            torch.from_numpy(np.array(axis.width / axis.length)),
            float(axis.length),
            bool(axis.periodic),
            start,
        )

    @property
    def n(self) -> int:
        """Number of values."""
        return len(self.points)

    @property
    def complete(self) -> Line:
        """The line of which this is a part: itself, but for `closures.operators.slab_line`."""
        return self

    @property
    def complete_here(self) -> Line:
        """`complete`, with tensors where those of this line are."""
        return self

    @property
    def walls(self) -> tuple[int, int]:
        """Number of walls at the lower and at the upper end."""
        return (0, 0) if self.periodic else (1, 1)

    def extended(self, f: Tensor) -> Tensor:
        """What `derivative` is applied to, of a field (..., nx, ny, nz): the field, with neighbours of a part."""
        return f

    def across(self, f: Tensor, action: Callable[[Tensor], Tensor]) -> Tensor:
        """What `action` makes of `extended` fields (..., nx, ny, nz): if this is a part of a period, of all of it."""
        return action(f)

    def columns(self, f: Tensor, action: Callable[[Tensor], Tensor]) -> Tensor:
        """What `action`, which treats every x alike, makes of fields (..., nx, ny, nz) at all points of `complete`.

        If this is a part of y, some of x is there meanwhile.
        """
        return action(f)

    def cut_out(self, f: Tensor) -> Tensor:
        """Of a field (..., nx, ny, nz) at all points of `complete`, which is y, that at the points of this part."""
        return f

    def joined(self, rows: Tensor) -> Tensor:
        """Of (rows, points) those at all points of `complete`."""
        return rows

    def total(self, value: Tensor) -> Tensor:
        """The sum over all points of `complete` of what is summed over those that are here."""
        return value

    @cached_property
    def within(self) -> int:
        """Number of values that stand for a part of the length: all but the ends of `with_ends`."""
        return int((self.weights > 0).sum())

    @cached_property
    def unit(self) -> Tensor:
        """Coordinates as shares of the length, from 0 at the lower end."""
        return (self.points - self.start) / self.length

    def polynomials(self, count: int) -> Tensor:
        """The first `count` polynomials orthonormal on these points with these weights, (n, count), float64.

        They tend to Legendre's as the grid is refined; because they are orthonormal in the discrete product,
        analysis followed by synthesis is an exact projection on every grid. They resolve layers of a height
        proportional to ``1 / count^2`` at the ends, as walls ask for.
        """
        known: dict[int, Tensor] = self.__dict__.setdefault("_polynomials", {})
        if count not in known:
            x = 2.0 * self.unit.double().cpu().numpy() - 1.0
            root = np.sqrt(self.weights.double().cpu().numpy())
            legendre = np.polynomial.legendre.legvander(x, count - 1)
            r = np.linalg.qr(root[:, None] * legendre, mode="r")
            known[count] = torch.from_numpy(np.linalg.solve((np.sign(np.diag(r))[:, None] * r).T, legendre.T).T)
        return known[count]

    def sent(self, value: Tensor, like: Tensor) -> Tensor:
        """A matrix that this line keeps, with the device and type of `like`: sent there once."""
        known: dict[Any, tuple[Tensor, Tensor]] = self.__dict__.setdefault("_sent", {})
        key = id(value), like.device, like.dtype
        if key not in known or known[key][0] is not value:
            known[key] = value, value.to(like)
        return known[key][1]

    @cached_property
    def derivative(self) -> Tensor:
        """The matrix of ``d/dx`` at these points, (n, n), float64, on the processor.

        Periodic and evenly spaced: spectral. Otherwise fourth-order differences on the true coordinates, one-sided at
        walls and across the seam of a period: one order is lost at a wall with each derivative of a derivative.
        """
        if self.n == 1:
            return torch.zeros((1, 1), dtype=torch.float64)
        if not self.is_spectral:
            return torch.from_numpy(_differences(self.points.double().cpu().numpy()))
        return self._multiplied(1j * self._wavenumbers)

    @cached_property
    def half_shift(self) -> Tensor:
        """The matrix that answers values half a spacing further along an evenly spaced period, (n, n), float64.

        Its transpose goes back; the Nyquist mode, which has no value there, vanishes. On the processor.

        Raises
        ------
        ValueError : spacings differ, or the line has two ends.
        """
        if not self.is_spectral:
            raise ValueError("half a spacing along: only where spacings are equal and the ends are one point")
        return self._multiplied(torch.exp(0.5j * self.length / self.n * self._wavenumbers))

    def carried_on(self, distance: float) -> Tensor:
        """The matrix of what changes where values on an evenly spaced period are carried on, (n, n), float64.

        The Nyquist mode does not change. On the processor.
        """
        known: dict[float, Tensor] = self.__dict__.setdefault("_carried_on", {})
        if distance not in known:
            known[distance] = self._multiplied(torch.exp(-1j * distance * self._wavenumbers) - 1.0)
        return known[distance]

    @cached_property
    def is_spectral(self) -> bool:
        """Whether values belong to Fourier modes: an evenly spaced period."""
        return self.periodic and bool((self.weights - 1.0 / self.n).abs().max() * self.n < 1e-5)

    @property
    def _wavenumbers(self) -> Tensor:
        return 2.0 * math.pi / self.length * torch.arange(self.n // 2 + 1, dtype=torch.float64)

    def _multiplied(self, symbol: Tensor) -> Tensor:
        """The matrix that multiplies each mode by its symbol, and the Nyquist mode by zero, on the processor."""
        if self.n % 2 == 0:
            symbol = torch.cat([symbol[:-1], torch.zeros_like(symbol[-1:])])
        waves = torch.fft.rfft(torch.eye(self.n, dtype=torch.float64), dim=0)
        matrix: Tensor = torch.fft.irfft(symbol[:, None] * waves, n=self.n, dim=0)
        return matrix

    @cached_property
    def with_ends(self) -> Line:
        """The same line with its two ends among the points; they stand for no part of the length."""
        ends = self.points.new_tensor([self.start, self.start + self.length])
        points = torch.cat([ends[:1], self.points, ends[1:]])
        return replace(self, points=points, weights=torch.nn.functional.pad(self.weights, (1, 1)))

    def to(self, device: torch.device, dtype: torch.dtype) -> Line:
        """The same line with its tensors there."""
        points, weights = (t.to(device, dtype) for t in (self.points, self.weights))
        return replace(self, points=points, weights=weights)


def _differences(points: Array) -> Array:
    """Weights of the derivative of the polynomial through the five (or all) points nearest in index, (n, n)."""
    n, matrix = len(points), np.zeros((len(points), len(points)))
    count = min(5, n)
    for i in range(n):
        near = slice(first := min(max(i - count // 2, 0), n - count), first + count)
        x = points[near] - points[i]
        powers = np.vander(x / np.ptp(x), count, increasing=True)
        matrix[i, near] = np.linalg.solve(powers.T, np.eye(count)[1]) / np.ptp(x)
    return matrix


@dataclass(frozen=True, eq=False)
class Domain:
    """Three lines: x streamwise, y wall-normal, z spanwise; fields on it are indexed ``[..., i, j, k]``."""

    x: Line
    y: Line
    z: Line

    @classmethod
    def of(cls, grid: Grid) -> Domain:
        """The points at which the solver's centred fields live."""
        return cls(*(Line.of(axis) for axis in grid.axes))

    @property
    def lines(self) -> tuple[Line, Line, Line]:
        """The three lines in order x, y, z."""
        return self.x, self.y, self.z

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of points per direction."""
        return self.x.n, self.y.n, self.z.n

    @property
    def periodic(self) -> tuple[bool, bool, bool]:
        """Which directions close on themselves."""
        return self.x.periodic, self.y.periodic, self.z.periodic

    @cached_property
    def volumes(self) -> Tensor:
        """Share of the volume that each point stands for, (nx, ny, nz); the sum is one."""
        wx, wy, wz = (line.weights for line in self.lines)
        return wx[:, None, None] * wy[None, :, None] * wz[None, None, :]

    def like(self, field: Tensor) -> Domain:
        """This domain with tensors of the device and type of `field` (kept, so that they are moved once)."""
        if (field.device, field.dtype) == (self.x.points.device, self.x.points.dtype):
            return self
        known: dict[Any, Domain] = self.__dict__.setdefault("_copies", {})
        key = field.device, field.dtype
        if key not in known:
            known[key] = Domain(*(line.to(field.device, field.dtype) for line in self.lines))
        return known[key]

    def describe(self) -> dict[str, Any]:
        """The domain as plain numbers, for cards; `same` compares two of them."""
        return {
            name: {"length": line.length, "periodic": line.periodic, "points": line.unit.tolist()}
            for name, line in zip("xyz", self.lines, strict=True)
        }


def same(a: dict[str, Any], b: dict[str, Any], tolerance: float = 1e-6) -> bool:
    """Whether two descriptions are of one domain, to `tolerance` of a length (single precision survives)."""
    return all(
        a[name]["periodic"] == b[name]["periodic"]
        and math.isclose(a[name]["length"], b[name]["length"], rel_tol=tolerance)
        and len(a[name]["points"]) == len(b[name]["points"])
        and np.allclose(a[name]["points"], b[name]["points"], rtol=0, atol=tolerance)
        for name in "xyz"
    )
