"""Which engine transforms a field; that of ducc0, for fields on the CPU: no plans, any size, twice as fast as torch's.

Fields come with y first, ``(planes, x, z)``, as they lie in memory. Modes beyond the highest retained one are neither
transformed nor stored where that can be avoided. Forward transforms carry 1/n.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import ducc0
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from solver.discretisation.fft_torch import PlanesEngine, TorchEngine, WithSlopes

SCRATCH_BYTES = 300 * 2**10  # of one intermediate: two, source and target should fit into a second-level cache
Chunk = tuple[slice, NDArray[Any], NDArray[Any]]


class DuccEngine:
    """Transforms of numpy views by ducc0, through scratch arrays that stay in cache; as many threads as torch has.

    Every one-dimensional transform is that of a single thread, so results do not depend on their number.
    """

    @staticmethod
    def rfftn(f: Tensor, dims: Sequence[int]) -> Tensor:
        """Half spectrum of a real field along `dims`, the last of which is halved."""
        return torch.from_numpy(ducc0.fft.r2c(f.numpy(), axes=tuple(dims), inorm=2, nthreads=torch.get_num_threads()))

    @staticmethod
    def irfftn(c: Tensor, n: int, dims: Sequence[int]) -> Tensor:
        """Real values from a (possibly short) half spectrum; `n` points along the last of `dims`."""
        a, last = c.numpy(), dims[-1]
        shape = list(a.shape)
        shape[last] = n // 2 + 1
        whole = np.zeros(shape, a.dtype)
        kept = whole[(slice(None),) * last + (slice(0, a.shape[last]),)]
        if len(dims) > 1:
            ducc0.fft.c2c(a, axes=tuple(dims[:-1]), forward=False, out=kept, nthreads=torch.get_num_threads())
        else:
            kept[...] = a
        return torch.from_numpy(
            ducc0.fft.c2r(whole, axes=(last,), lastsize=n, forward=False, nthreads=torch.get_num_threads())
        )

    @staticmethod
    def plane_modes(f: Tensor, highest: tuple[int, int], out: Tensor) -> Tensor:
        """Modes of (planes, x, z) up to `highest` in x and z, written to `out`: (re, im) first, or complex."""
        values, target, cz = f.numpy(), out.numpy(), highest[1] + 1
        threads = torch.get_num_threads()
        for part, half, full in _forward_scratch(values.shape, cz, values.dtype, SCRATCH_BYTES * threads):
            ducc0.fft.r2c(values[part], axes=(2,), inorm=2, out=half, nthreads=threads)
            ducc0.fft.c2c(half[:, :, :cz], axes=(1,), inorm=2, out=full, nthreads=threads)
            _copy_modes(full, target[..., part, :, :], highest[0])
        return out

    @staticmethod
    def plane_fields(c: Tensor, nx: int, nz: int, ikx: Tensor | None = None, ikz: Tensor | None = None) -> WithSlopes:
        """Values (planes, nx, nz) of modes, (re, im) first or complex; d/dx and d/dz where factors are given.

        `ikx` has `nx` entries in the order of an FFT, `ikz` one a retained mode. d/dz shares the pass along x with the
        values, d/dx the copy of the modes.
        """
        source, threads = c.numpy(), torch.get_num_threads()
        planes, cx, cz = source.shape[-3:]
        values = torch.empty((planes, nx, nz), dtype=c.real.dtype)
        ddx = None if ikx is None else torch.empty_like(values)
        ddz = None if ikz is None else torch.empty_like(values)
        for part, half, full in _backward_scratch(
            (planes, nx, nz), (cx, cz), source.real.dtype, SCRATCH_BYTES * threads
        ):
            _copy_modes(source[..., part, :, :], full, (cx - 1) // 2)
            ducc0.fft.c2c(full, axes=(1,), forward=False, out=half[:, :, :cz], nthreads=threads)
            ducc0.fft.c2r(half, axes=(2,), lastsize=nz, forward=False, out=values.numpy()[part], nthreads=threads)
            if ikz is not None and ddz is not None:
                half[:, :, :cz] *= ikz.numpy()
                ducc0.fft.c2r(half, axes=(2,), lastsize=nz, forward=False, out=ddz.numpy()[part], nthreads=threads)
            if ikx is not None and ddx is not None:
                full *= ikx.numpy()[:, None]
                ducc0.fft.c2c(full, axes=(1,), forward=False, out=half[:, :, :cz], nthreads=threads)
                ducc0.fft.c2r(half, axes=(2,), lastsize=nz, forward=False, out=ddx.numpy()[part], nthreads=threads)
        return values, ddx, ddz

    @staticmethod
    def column_modes(c: Tensor, highest: int) -> Tensor:
        """Modes along y, (2, cy, x, z), of complex columns (y, x, z)."""
        full = ducc0.fft.c2c(c.numpy(), axes=(0,), inorm=2, nthreads=torch.get_num_threads())
        pair = np.empty((2, 2 * highest + 1, *full.shape[1:]), full.real.dtype)
        _copy_modes(full, pair, highest, axis=-3)
        return torch.from_numpy(pair)

    @staticmethod
    def column_values(pair: Tensor, ny: int) -> Tensor:
        """Complex columns (ny, x, z) from modes along y."""
        source = pair.numpy()
        full = _scratch(f"padded y {source.shape[1]}", (ny, *source.shape[2:]), _complex(source.dtype))
        _copy_modes(source, full, (source.shape[1] - 1) // 2, axis=-3)
        return torch.from_numpy(ducc0.fft.c2c(full, axes=(0,), forward=False, nthreads=torch.get_num_threads()))


Engine = type[DuccEngine] | TorchEngine
Wanted = Literal["auto", "lines", "planes"]
BY_TORCH = {"lines": TorchEngine(), "planes": PlanesEngine()}


def choose_engine(fields: Sequence[Tensor], wanted: Wanted = "auto") -> Engine:
    """The engine of that name; ``auto``: planes on a GPU; on a CPU ducc0, or lines where a gradient is recorded."""
    if wanted != "auto" or fields[0].device.type != "cpu":
        return BY_TORCH["planes" if wanted == "auto" else wanted]
    tracked = torch.is_grad_enabled() and any(f.requires_grad for f in fields)
    return BY_TORCH["lines"] if tracked else DuccEngine


def _complex(real: np.dtype) -> np.dtype:
    return np.result_type(real, np.complex64)


@lru_cache(maxsize=64)
def _scratch(name: str, shape: tuple[int, ...], dtype: np.dtype) -> NDArray[Any]:  # noqa: ARG001  the name tells two of one shape apart
    """An array that is written anew at each use, zero at the first."""
    return np.zeros(shape, dtype)


@lru_cache(maxsize=64)
def _forward_scratch(shape: tuple[int, int, int], cz: int, real: np.dtype, limit: int) -> list[Chunk]:
    """Chunks of planes of (planes, nx, nz), each with the array of its half spectrum and that of all modes along x."""
    (planes, nx, nz), kind = shape, _complex(real)
    return [
        (part, _scratch("half", (size, nx, nz // 2 + 1), kind), _scratch("full", (size, nx, cz), kind))
        for part in _chunks(planes, nx * nz * real.itemsize, limit)
        for size in [part.stop - part.start]
    ]


@lru_cache(maxsize=64)
def _backward_scratch(shape: tuple[int, int, int], modes: tuple[int, int], real: np.dtype, limit: int) -> list[Chunk]:
    """The same; what lies beyond the highest mode is never written and stays zero: it is not shared with other uses."""
    (planes, nx, nz), (cx, cz), kind = shape, modes, _complex(real)
    return [
        (
            part,
            _scratch(f"padded z {cz}", (size, nx, nz // 2 + 1), kind),
            _scratch(f"padded x {cx}", (size, nx, cz), kind),
        )
        for part in _chunks(planes, nx * nz * real.itemsize, limit)
        for size in [part.stop - part.start]
    ]


def _chunks(planes: int, plane_bytes: int, limit: int) -> list[slice]:
    """Consecutive planes, so many at a time as scratch arrays of `limit` bytes hold."""
    size = max(limit // plane_bytes, 1)
    return [slice(start, min(start + size, planes)) for start in range(0, planes, size)]


def _copy_modes(source: NDArray[Any], target: NDArray[Any], highest: int, axis: int = -2) -> None:
    """Copy modes 0 .. highest and -highest .. -1 along `axis` between arrays of different length.

    Either may be complex or have (re, im) first.
    """
    views = [(source, target)]
    if not np.iscomplexobj(target):
        views = [(source.real, target[0]), (source.imag, target[1])]
    elif not np.iscomplexobj(source):
        views = [(source[0], target.real), (source[1], target.imag)]
    after = (slice(None),) * (-1 - axis)
    for old, new in views:
        for ends in (slice(highest + 1), slice(-highest, None) if highest else slice(0)):
            new[(..., ends, *after)] = old[(..., ends, *after)]
