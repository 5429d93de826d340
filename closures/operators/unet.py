"""U-Net in three dimensions: convolutions on ever coarser cells, and back with what the finer ones knew."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import avg_pool3d

from closures.operators.cells import Periodic, Prolongation, Stencil, volumes_of
from closures.operators.domain import Domain
from closures.operators.fno import CHANNEL_PERIODICITY, Count, Periodicity
from closures.operators.pointwise import Channelwise, check_kind, with_wall_coordinates


def pair(channels_in: int, channels_out: int, periodic: Periodic) -> nn.Sequential:
    """Two convolutions, a GELU behind each."""
    first, second = (Stencil(n, channels_out, periodic, bias=True) for n in (channels_in, channels_out))
    return nn.Sequential(first, nn.GELU(), second, nn.GELU())


class UNet(nn.Module):
    """Convolutions on grids of ever fewer cells and more channels, and back, joined grid by grid.

    Ronneberger, Fischer & Brox 2015 (MICCAI, arXiv 1505.04597), in three dimensions Cicek, Abdulkadir, Lienkamp, Brox &
    Ronneberger 2016 (MICCAI, arXiv 1606.06650): two convolutions of 3^3 cells on each grid, twice the channels on each
    coarser one. Different here: convolutions keep the shape, see `closures.operators.cells` for what is beyond walls
    and periods; GELU; no batch normalisation, whose statistics are not those of a flow that runs; coarse values are
    means over eight cells, weighted with their volumes, instead of maxima. The stencils are those of one grid:
    `grid_free` is false. Answers commute with shifts by ``2^(levels - 1)`` points along periods.

    Parameters
    ----------
    channels : of the field, in and out.
    width : channels on the finest grid.
    levels : number of grids, 3 being 32 x 32 x 16 to 8 x 8 x 4; points are multiples of ``2^(levels - 1)``.
    periodic : which directions are periodic.
    """

    kind: Literal["state"] = "state"
    grid_free = False
    symmetries = frozenset[str]()
    reach: Literal["global"] = "global"

    def __init__(
        self,
        *,
        channels: Count = 3,
        width: Count = 16,
        levels: Annotated[int, Field(ge=1, le=12)] = 3,
        periodic: Periodicity = CHANNEL_PERIODICITY,
    ) -> None:
        super().__init__()
        self.periodic, self.levels = periodic, levels
        sizes = [width * 2**k for k in range(levels)]
        entering = [channels + periodic.count(False), *sizes[:-1]]
        self.down = nn.ModuleList(pair(n, size, periodic) for n, size in zip(entering, sizes, strict=True))
        self.rise = nn.ModuleList(Prolongation(2 * size, size, periodic) for size in sizes[:-1])
        self.up = nn.ModuleList(pair(2 * size, size, periodic) for size in sizes[:-1])
        self.project = Channelwise(width, channels)
        for weight in self.project.parameters():
            nn.init.zeros_(weight)  # begin with a frozen flow

    def forward(self, field: Tensor, domain: Domain) -> Tensor:
        """``(batch, channels, nx, ny, nz)`` to a field on the same points.

        Raises
        ------
        CaseError : a domain of another kind, or whose points cannot be halved often enough.
        """
        check_kind(self.periodic, domain)
        volumes = volumes_of(domain, field, self.levels)
        v, seen = self.down[0](with_wall_coordinates(field, domain)), []
        for fine, down in zip(volumes[:-1], self.down[1:], strict=True):
            seen.append(v)
            v = down(avg_pool3d(v * fine, 2) / avg_pool3d(fine, 2))
        for k in reversed(range(self.levels - 1)):
            v = self.up[k](torch.cat([seen[k], self.rise[k](v)], dim=1))
        found: Tensor = self.project(v)
        return found
