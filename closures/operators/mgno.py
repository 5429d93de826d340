"""Multigrid neural operator: every layer is a linear V-cycle whose stencils are learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import gelu

from closures.operators.cells import Periodic, Prolongation, Restriction, Stencil, volumes_of
from closures.operators.domain import Domain
from closures.operators.fno import CHANNEL_PERIODICITY, Count, Periodicity
from closures.operators.pointwise import Channelwise, check_kind, with_wall_coordinates

Sweeps = Annotated[int, Field(ge=1, le=16)]


class VCycle(nn.Module):
    """A multigrid cycle for ``A u = f`` from a zero guess, linear in f, with all of its parts learned.

    ``u = S f``, then ``u <- u + S (f - A u)`` for the other sweeps before; ``u <- u + P V(R (f - A u))`` with the cycle
    V of the grid of twice the spacing, unless this is the coarsest; then the sweeps after. Each sweep has a smoother S
    of its own, each grid its A.

    Parameters
    ----------
    channels_in, channels_out : of f and of u.
    levels : number of grids.
    before, after : sweeps of smoothing before the coarser grid is asked and after it.
    periodic : which directions are.
    """

    def __init__(
        self, channels_in: int, channels_out: int, levels: int, before: int, after: int, periodic: Periodic
    ) -> None:
        super().__init__()
        self.matrix = Stencil(channels_out, channels_in, periodic)
        self.before = nn.ModuleList(Stencil(channels_in, channels_out, periodic) for _ in range(before))
        self.after = nn.ModuleList(Stencil(channels_in, channels_out, periodic) for _ in range(after))
        if levels > 1:
            self.restrict = Restriction(channels_in, periodic)
            self.coarser = VCycle(channels_in, channels_out, levels - 1, before, after, periodic)
            self.prolong = Prolongation(channels_out, channels_out, periodic)

    def forward(self, f: Tensor, volumes: Sequence[Tensor]) -> Tensor:
        """``(batch, channels_in, nx, ny, nz)`` and the volumes of the cells of each grid to u on the same points."""
        first, *others = self.before
        u: Tensor = first(f)
        for smoother in others:
            u = u + smoother(f - self.matrix(u))
        if len(volumes) > 1:
            residual = self.restrict(f - self.matrix(u), volumes[0])
            u = u + self.prolong(self.coarser(residual, volumes[1:]))
        for smoother in self.after:
            u = u + smoother(f - self.matrix(u))
        return u


class MgNO(nn.Module):
    """``v <- gelu(V v + W v + b)`` with a linear V-cycle V in each layer, and a linear map at the end.

    He, Liu & Xu 2024 (ICLR, arXiv 2310.19809), in three dimensions: no lifting, pointwise W as in their Darcy problems,
    no normalisation. V is the textbook's cycle (Briggs, Henson & McCormick 2000, A Multigrid Tutorial): the coarser
    grid gets the residual and starts from zero, where the published code hands on f and the restricted u. Cells are
    centred, so grids are halved by stencils of 4^3 cells, weighted with their volumes, and walls stay where they are
    (`closures.operators.cells`). The stencils are those of one grid: `grid_free` is false. Answers commute with shifts
    by ``2^(levels - 1)`` points along periods.

    Parameters
    ----------
    channels : of the field, in and out.
    width : channels between.
    layers : number of V-cycles.
    levels : grids of each, 4 being 32 x 32 x 16 to 4 x 4 x 2; points are multiples of ``2^(levels - 1)``.
    before, after : sweeps of smoothing on each grid, before and after the coarser ones.
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
        layers: Annotated[int, Field(ge=1, le=64)] = 4,
        levels: Annotated[int, Field(ge=1, le=12)] = 4,
        before: Sweeps = 1,
        after: Sweeps = 1,
        periodic: Periodicity = CHANNEL_PERIODICITY,
    ) -> None:
        super().__init__()
        self.periodic, self.levels = periodic, levels
        sizes = [channels + periodic.count(False), *[width] * (layers - 1)]
        self.cycles = nn.ModuleList(VCycle(size, width, levels, before, after, periodic) for size in sizes)
        self.local = nn.ModuleList(Channelwise(size, width) for size in sizes)
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
        v = with_wall_coordinates(field, domain)
        for cycle, local in zip(self.cycles, self.local, strict=True):
            v = gelu(cycle(v, volumes) + local(v))
        found: Tensor = self.project(v)
        return found
