"""Convolutions of cells and between grids of which one has half as many along each direction.

A period goes on from its other end. Beyond a wall lies the image of the cells before it with the opposite sign: what is
convolved vanishes on the wall itself, midway between a cell and its image, on every grid. Zeros beyond, which published
convolutional operators have, put the zero half a cell behind the wall, and on each coarser grid twice as far.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool3d, pad

from closures.operators.domain import Domain
from solver.errors import CaseError

Periodic = tuple[bool, bool, bool]


def surrounded(f: Tensor, periodic: Periodic) -> Tensor:
    """`f` (batch, channels, nx, ny, nz) with one more cell at both ends of every direction."""
    f = pad(f, [int(periodic[d]) for d in (2, 2, 1, 1, 0, 0)], mode="circular")
    for d in range(3):
        if not periodic[d]:
            lower, upper = f.narrow(2 + d, 0, 1), f.narrow(2 + d, f.shape[2 + d] - 1, 1)
            f = torch.cat([-lower, f, -upper], dim=2 + d)
    return f


class Stencil(nn.Module):
    """A convolution with the 3^3 cells around each, that keeps the shape."""

    def __init__(self, channels_in: int, channels_out: int, periodic: Periodic, bias: bool = False) -> None:
        super().__init__()
        self.kernel, self.periodic = nn.Conv3d(channels_in, channels_out, 3, bias=bias), periodic

    def forward(self, f: Tensor) -> Tensor:
        """``(batch, channels, nx, ny, nz)`` to the same points."""
        wide, half = surrounded(f, self.periodic), f.shape[2] // 2
        if len(f) > 1 or f.device.type != "cpu" or f.shape[2] % 2:
            found: Tensor = self.kernel(wide)
            return found
        # one sample as two, cut across x: of a single small one torch's convolution takes four times as long
        parts = self.kernel(torch.cat([wide[:, :, : half + 2], wide[:, :, half:]]))
        return torch.cat(parts.split(1), dim=2)


class Restriction(nn.Module):
    """From cells to those of twice the size: integrals over cells are convolved, with 4^3 around each coarse one.

    They are divided by the mean volume of the eight cells within: with weights 1/8 on these the integral over the
    domain is kept, on stretched cells as well.
    """

    def __init__(self, channels: int, periodic: Periodic) -> None:
        super().__init__()
        self.kernel, self.periodic = nn.Conv3d(channels, channels, 4, stride=2, bias=False), periodic

    def forward(self, f: Tensor, volumes: Tensor) -> Tensor:
        """``(batch, channels, nx, ny, nz)`` and (1, 1, nx, ny, nz) to half as many points along each direction."""
        integrals: Tensor = self.kernel(surrounded(f * volumes, self.periodic))
        return integrals / avg_pool3d(volumes, 2)


class Prolongation(nn.Module):
    """From cells to those of half the size, each of which hears of the eight nearest."""

    def __init__(self, channels_in: int, channels_out: int, periodic: Periodic) -> None:
        super().__init__()
        self.kernel = nn.ConvTranspose3d(channels_in, channels_out, 4, stride=2, padding=3, bias=False)
        self.periodic = periodic

    def forward(self, f: Tensor) -> Tensor:
        """``(batch, channels, nx, ny, nz)`` to twice as many points along each direction."""
        found: Tensor = self.kernel(surrounded(f, self.periodic))
        return found


def volumes_of(domain: Domain, like: Tensor, levels: int) -> list[Tensor]:
    """Volumes of the cells of `levels` grids, in units of their mean on the first, (1, 1, nx, ny, nz) each.

    Raises
    ------
    CaseError : the points of a direction cannot be halved so often.
    """
    multiple = 2 ** (levels - 1)
    for name, line in zip("xyz", domain.lines, strict=True):
        if line.n % multiple:
            able = next(k for k in range(levels) if line.n % 2 ** (k + 1))
            halved = f"{line.n} points along {name} can be halved {able} times"
            raise CaseError(
                f"[operator] levels = {levels}: {halved}: lower it to {able + 1}, or take {multiple} n points"
            )
    volumes = [(domain.like(like).volumes * like[0, 0].numel())[None, None]]
    for _ in range(levels - 1):
        volumes.append(8.0 * avg_pool3d(volumes[-1], 2))
    return volumes
