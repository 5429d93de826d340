"""FFT engines by torch: any device, differentiable. The conventions are those of `solver.discretisation.fft`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import pad

from solver.discretisation.fusion import fused

WithSlopes = tuple[Tensor, Tensor | None, Tensor | None]  # a field, its derivatives along x and z as far as asked for


class TorchEngine:
    """The same by torch.fft: any device, differentiable."""

    @staticmethod
    def rfftn(f: Tensor, dims: Sequence[int]) -> Tensor:
        """Half spectrum of a real field along `dims`, the last of which is halved."""
        spectrum: Tensor = torch.fft.rfftn(f, dim=tuple(dims), norm="forward")
        return spectrum

    @staticmethod
    def irfftn(c: Tensor, n: int, dims: Sequence[int]) -> Tensor:
        """Real values from a (possibly short) half spectrum; `n` points along the last of `dims`."""
        for d in dims[:-1]:
            c = torch.fft.ifft(c, dim=d, norm="forward")
        values: Tensor = torch.fft.irfft(c, n=n, dim=dims[-1], norm="forward")
        return values

    def plane_modes(self, f: Tensor, highest: tuple[int, int], out: Tensor) -> Tensor:
        """Modes of (planes, x, z) up to `highest` in x and z, in the form of `out`: (re, im) first, or complex."""
        half = torch.fft.rfft(f, dim=2, norm="forward")[:, :, : highest[1] + 1]
        kept = _truncated(torch.fft.fft(half, dim=1, norm="forward"), 1, highest[0])
        return kept if out.is_complex() else torch.stack([kept.real, kept.imag])

    def plane_fields(
        self, c: Tensor, nx: int, nz: int, ikx: Tensor | None = None, ikz: Tensor | None = None
    ) -> WithSlopes:
        """Values (planes, nx, nz) of modes, (re, im) first or complex; d/dx and d/dz where factors are given."""
        full = _padded(_joined(c), 1, nx)
        lines = torch.fft.ifft(full, dim=1, norm="forward")
        ddx = None if ikx is None else torch.fft.ifft(full * ikx[:, None], dim=1, norm="forward")
        ddz = None if ikz is None else lines * ikz
        back = partial(torch.fft.irfft, n=nz, dim=2, norm="forward")
        return back(lines), None if ddx is None else back(ddx), None if ddz is None else back(ddz)

    def column_modes(self, c: Tensor, highest: int) -> Tensor:
        """Modes along y, (2, cy, x, z), of complex columns (y, x, z)."""
        kept = _truncated(torch.fft.fft(c, dim=0, norm="forward"), 0, highest)
        return torch.stack([kept.real, kept.imag])

    def column_values(self, pair: Tensor, ny: int) -> Tensor:
        """Complex columns (ny, x, z) from modes along y."""
        columns: Tensor = torch.fft.ifft(_padded(_joined(pair), 0, ny), dim=0, norm="forward")
        return columns


class PlanesEngine(TorchEngine):
    """x and z by one call, in planes that have all modes: less memory is read and written than line by line on a GPU.

    There torch copies a field to transform an axis that is not its last, copies what it transforms to real values, and
    multiplies by 1/n in a pass of its own. Here both axes are last, and the factor goes with the copy of the modes.
    """

    def plane_modes(self, f: Tensor, highest: tuple[int, int], out: Tensor) -> Tensor:
        """Modes of (planes, x, z) up to `highest` in x and z, in the form of `out`: (re, im) first, or complex."""
        whole = torch.view_as_real(torch.fft.rfft2(f, dim=(1, 2), norm="backward"))[:, :, : highest[1] + 1]
        kept = self._kept(_ends(whole, 1, highest[0]), 1, 1.0 / f[0].numel(), not out.is_complex())
        return torch.view_as_complex(kept) if out.is_complex() else kept

    def plane_fields(
        self, c: Tensor, nx: int, nz: int, ikx: Tensor | None = None, ikz: Tensor | None = None
    ) -> WithSlopes:
        """Values (planes, nx, nz) of modes, (re, im) first or complex; d/dx and d/dz where factors are given."""
        modes = torch.view_as_real(c) if c.is_complex() else c.movedim(0, -1)
        whole = torch.view_as_complex(self._whole(modes, 1, nx, nz // 2 + 1))
        back = partial(torch.fft.irfft2, s=(nx, nz), dim=(1, 2), norm="forward")
        ddx = None if ikx is None else back(whole * ikx[:, None])
        ddz = None if ikz is None else back(whole * pad(ikz, (0, whole.shape[2] - len(ikz))))
        return back(whole), ddx, ddz

    def column_modes(self, c: Tensor, highest: int) -> Tensor:
        """Modes along y, (2, cy, x, z), of complex columns (y, x, z)."""
        whole = torch.view_as_real(torch.fft.fft(c, dim=0, norm="backward"))
        return self._kept(_ends(whole, 0, highest), 0, 1.0 / len(c), True)

    def column_values(self, pair: Tensor, ny: int) -> Tensor:
        """Complex columns (ny, x, z) from modes along y."""
        whole = torch.view_as_complex(self._whole(pair.movedim(0, -1), 0, ny, pair.shape[-1]))
        columns: Tensor = torch.fft.ifft(whole, dim=0, norm="forward")
        return columns

    @fused
    def _kept(self, ends: list[Tensor], dim: int, share: float, parts_first: bool) -> Tensor:
        """Modes from both `ends` of a dimension, (..., 2), times `share`; in memory (re, im) is first or last."""
        if parts_first:
            return torch.cat([f.movedim(-1, 0) * share for f in ends], dim + 1)
        return torch.cat([f * share for f in ends], dim)

    @fused
    def _whole(self, modes: Tensor, dim: int, n: int, cz: int) -> Tensor:
        """As many as `n` modes along a dimension and `cz` along z, (..., 2), those that are added zero."""
        highest, shape = (modes.shape[dim] - 1) // 2, list(modes.shape)
        shape[dim], shape[2] = n, cz
        whole = modes.new_zeros(shape)
        for end, source in enumerate(_ends(modes, dim, highest)):
            _ends(whole[:, :, : modes.shape[2]], dim, highest)[end].copy_(source)
        return whole


def _ends(c: Tensor, dim: int, highest: int) -> list[Tensor]:
    """Modes 0 .. highest and -highest .. -1 along `dim`."""
    return [c.narrow(dim, 0, highest + 1), c.narrow(dim, c.shape[dim] - highest, highest)]


def _truncated(c: Tensor, dim: int, highest: int) -> Tensor:
    """Modes ``|k| <= highest`` along `dim`."""
    return torch.cat(_ends(c, dim, highest), dim)


def _padded(c: Tensor, dim: int, n: int) -> Tensor:
    """`n` modes along `dim`, the added ones zero."""
    highest = (c.shape[dim] - 1) // 2
    shape = list(c.shape)
    shape[dim] = n - 2 * highest - 1
    low, high = _ends(c, dim, highest)
    return torch.cat([low, c.new_zeros(shape), high], dim)


def _joined(c: Tensor) -> Tensor:
    """Complex from (re, im) first."""
    return c if c.is_complex() else torch.complex(c[0], c[1])
