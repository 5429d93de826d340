"""Physical fields <-> coefficients: Fourier along Fourier axes, values along finite-volume axes.

A coefficient field is real with a leading dimension of *parts*: (re, im) where any axis is Fourier, one part
otherwise, so that pointwise kernels fuse and products in y are real matrix products. Mode 0 is the mean (the
forward transform carries 1/N). All fields keep y slowest in memory, whatever the index order says.

The engine is ducc0 on CPU (no plans, any size, twice as fast as torch there) and torch.fft on GPU or where a
gradient is wanted; both skip the modes that de-aliasing discards.
"""

from __future__ import annotations

import ducc0
import numpy as np
import torch
from torch import Tensor

from solver.grid import Grid
from solver.parallel import Decomposition


class DuccEngine:
    """Transforms by ducc0 along one dimension of a numpy view; the forward one carries 1/n."""

    @staticmethod
    def rfft(f: Tensor, dim: int) -> Tensor:
        """Half spectrum of a real field."""
        return torch.from_numpy(ducc0.fft.r2c(f.numpy(), axes=(dim,), inorm=2))

    @staticmethod
    def fft(c: Tensor, dim: int) -> Tensor:
        """Full spectrum along `dim`."""
        return torch.from_numpy(ducc0.fft.c2c(c.numpy(), axes=(dim,), inorm=2))

    @staticmethod
    def ifft(c: Tensor, dim: int) -> Tensor:
        """Values from the full spectrum along `dim`, in place."""
        a = c.numpy()
        ducc0.fft.c2c(a, axes=(dim,), forward=False, out=a)
        return c

    @staticmethod
    def irfft(c: Tensor, n: int, dim: int, full_dim: int | None = None) -> Tensor:
        """Real values from a (possibly short) half spectrum, after an inverse along `full_dim`."""
        a = c.numpy()
        padded = np.empty((*a.shape[:dim], n // 2 + 1, *a.shape[dim + 1 :]), a.dtype)
        kept = (slice(None),) * dim + (slice(0, a.shape[dim]),)
        padded[(slice(None),) * dim + (slice(a.shape[dim], None),)] = 0.0
        if full_dim is None:
            padded[kept] = a
        else:
            ducc0.fft.c2c(a, axes=(full_dim,), forward=False, out=padded[kept])
        return torch.from_numpy(ducc0.fft.c2r(padded, axes=(dim,), lastsize=n, forward=False))

    @staticmethod
    def split(c: Tensor, dim: int, highest: int) -> Tensor:
        """Keep modes ``|k| <= highest`` along `dim` and separate real and imaginary parts."""
        a = c.numpy()
        shape = list(a.shape)
        shape[dim] = 2 * highest + 1
        pair = np.empty((2, *shape), a.real.dtype)
        lead = (slice(None),) * dim
        low, high = slice(0, highest + 1), slice(shape[dim] - highest, None)
        source_high = slice(a.shape[dim] - highest, None)
        for part, values in zip(pair, (a.real, a.imag), strict=True):
            part[(*lead, low)] = values[(*lead, low)]
            part[(*lead, high)] = values[(*lead, source_high)]
        return torch.from_numpy(pair)

    @staticmethod
    def merge(pair: Tensor, dim: int, n: int) -> Tensor:
        """Complex field with `n` modes along `dim`, the discarded ones zero."""
        p = pair.numpy()
        highest = (p.shape[dim + 1] - 1) // 2
        shape = list(p.shape[1:])
        shape[dim] = n
        a = np.empty(shape, np.complex128 if p.dtype == np.float64 else np.complex64)
        lead = (slice(None),) * dim
        low, high = slice(0, highest + 1), slice(p.shape[dim + 1] - highest, None)
        a[(*lead, slice(highest + 1, n - highest))] = 0.0
        for part, values in zip(p, (a.real, a.imag), strict=True):
            values[(*lead, low)] = part[(*lead, low)]
            values[(*lead, slice(n - highest, None))] = part[(*lead, high)]
        return torch.from_numpy(a)


class TorchEngine:
    """The same by torch.fft: any device, differentiable."""

    @staticmethod
    def rfft(f: Tensor, dim: int) -> Tensor:
        """Half spectrum of a real field."""
        return torch.fft.rfft(f, dim=dim, norm="forward")

    @staticmethod
    def fft(c: Tensor, dim: int) -> Tensor:
        """Full spectrum along `dim`."""
        return torch.fft.fft(c, dim=dim, norm="forward")

    @staticmethod
    def ifft(c: Tensor, dim: int) -> Tensor:
        """Values from the full spectrum along `dim`."""
        return torch.fft.ifft(c, dim=dim, norm="forward")

    @staticmethod
    def irfft(c: Tensor, n: int, dim: int, full_dim: int | None = None) -> Tensor:
        """Real values from a (possibly short) half spectrum, after an inverse along `full_dim`."""
        if full_dim is not None:
            c = torch.fft.ifft(c, dim=full_dim, norm="forward")
        return torch.fft.irfft(c, n=n, dim=dim, norm="forward")

    @staticmethod
    def split(c: Tensor, dim: int, highest: int) -> Tensor:
        """Keep modes ``|k| <= highest`` along `dim` and separate real and imaginary parts."""
        n = c.shape[dim]
        kept = torch.cat([c.narrow(dim, 0, highest + 1), c.narrow(dim, n - highest, highest)], dim)
        return torch.stack([kept.real, kept.imag])

    @staticmethod
    def merge(pair: Tensor, dim: int, n: int) -> Tensor:
        """Complex field with `n` modes along `dim`, the discarded ones zero."""
        c = torch.complex(pair[0], pair[1])
        highest = (c.shape[dim] - 1) // 2
        shape = list(c.shape)
        shape[dim] = n - 2 * highest - 1
        return torch.cat(
            [c.narrow(dim, 0, highest + 1), c.new_zeros(shape), c.narrow(dim, highest + 1, highest)], dim
        )


Engine = type[DuccEngine] | type[TorchEngine]


def choose_engine(f: Tensor) -> Engine:
    """ducc0 for plain CPU fields, torch for GPU fields and wherever a gradient is recorded."""
    return TorchEngine if f.is_cuda or (f.requires_grad and torch.is_grad_enabled()) else DuccEngine


class Transform:
    """Transforms of one grid; physical arrays ``(nx, planes, nz)``, coefficients ``(parts, cx, planes or cy, cz)``."""

    def __init__(self, grid: Grid, decomposition: Decomposition) -> None:
        self.grid, self.decomposition = grid, decomposition
        self.fourier = tuple(axis.is_fourier for axis in grid.axes)
        self.parts = 2 if self.fourier[0] else 1
        self.highest = {d: axis.highest_mode for d, axis in grid.fourier_axes.items()}

    def to_coefficients(self, f: Tensor) -> Tensor:
        """Forward transform with truncation to the retained modes."""
        if not self.fourier[0]:
            return f[None]
        engine, highest, g = choose_engine(f), self.highest, f.transpose(0, 1)
        if not self.fourier[2]:  # duct: half spectrum in x alone
            half = engine.rfft(g, 1)[:, : highest[0] + 1]
            return torch.view_as_real(half).movedim(-1, 0).transpose(1, 2)
        half = engine.rfft(g, 2)[:, :, : highest[2] + 1]
        full = engine.fft(half, 1)
        if not self.fourier[1]:
            return engine.split(full, 1, highest[0]).transpose(1, 2)
        kept = engine.split(full, 1, highest[0]).transpose(1, 2)
        kept = self.decomposition.to_modes(kept).transpose(1, 2)
        columns = engine.fft(torch.complex(kept[0], kept[1]), 0)
        return engine.split(columns, 0, highest[1]).transpose(1, 2)

    def to_physical(self, coefficients: Tensor) -> Tensor:
        """Inverse transform onto the points of the grid (any number of planes along a finite-volume y)."""
        if not self.fourier[0]:
            return coefficients[0]
        engine, grid, c = choose_engine(coefficients), self.grid, coefficients.transpose(1, 2)
        if not self.fourier[2]:
            half = torch.complex(c[0], c[1])
            return engine.irfft(half, grid.x.points, 1).transpose(0, 1)
        if self.fourier[1]:
            columns = engine.ifft(engine.merge(c, 0, grid.y.points), 0)
            pair = torch.stack([columns.real, columns.imag]).transpose(1, 2)
            c = self.decomposition.to_planes(pair).transpose(1, 2)
        full = engine.merge(c, 1, grid.x.points)
        return engine.irfft(full, grid.z.points, 2, full_dim=1).transpose(0, 1)
