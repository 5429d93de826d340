"""Implicit factorised transformers: -o with chained and -m with parallel axial kernels."""

from __future__ import annotations

import math
from typing import Annotated, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import gelu, linear

from closures.operators.axial import (
    AxisKernel,
    NormalisedMix,
    apply_along,
    harmonic_angles,
    harmonics,
    means,
    normalised_mix,
    published_angles,
    published_coordinates,
    whole_means,
)
from closures.operators.domain import Domain
from closures.operators.fno import Count
from closures.operators.implicit import walk
from closures.operators.pointwise import Channelwise, operand
from closures.operators.products import Lengths, dealiased_product, with_derivatives, with_walls, without_walls
from solver.errors import CaseError

PUBLISHED_POSITION_SCALE, PUBLISHED_GAIN, EPSILON = 8.0, 0.02, 1e-5
Heads = Annotated[int, Field(ge=1, le=64)]
Wavenumber = Annotated[int, Field(ge=1, le=64)]


class AxialBlock(nn.Module):
    """One evaluation of the flow: axial kernels applied to values, normalised, and mixed pointwise.

    Chained: ``Z = K_z K_y K_x V``. Parallel: ``Z = [K_x V, K_y V, K_z V]``. Integrals over an axis are sums weighted
    with the shares of the cells and kernels are divided by the root of their rank, so that all of it converges as
    the grid is refined; the published networks add up and average the values as they come.
    """

    def __init__(self, width: int, heads: int, rank: int, modes: int, chained: bool, published: bool) -> None:
        super().__init__()
        self.heads, self.rank, self.modes, self.chained, self.published = heads, rank, modes, chained, published
        self.norm = nn.LayerNorm(width)
        self.value = nn.Linear(width, heads * width, bias=False)
        self.enter = nn.Linear(width, width, bias=False)
        kernels = [AxisKernel(width, heads, rank) for _ in range(3)]
        self.kernels = nn.ModuleList(kernels)
        self.mix = nn.Linear((1 if chained else 3) * heads * width, width, bias=False)
        self.leave = nn.Linear(width, width, bias=False)
        if published:
            for weight in [w for k in kernels for w in (k.query.weight, k.key.weight)]:
                nn.init.xavier_uniform_(weight, gain=PUBLISHED_GAIN)

    def forward(self, v: Tensor, domain: Domain) -> Tensor:
        """``(batch, nx, ny, nz, width)`` to the same."""
        h = self.norm(v)
        kernels = self.axis_kernels(operand(h), domain)
        if domain.y.complete is domain.y:
            mixed = self.normalised_mix(self.transformed(operand(h), kernels, (0, 1, 2)), domain)
        else:
            mixed = self.mixed_by_slabs(h, kernels, domain)
        change: Tensor = self.leave(gelu(mixed))
        return change

    def transformed(self, h: Tensor, kernels: list[Tensor], axes: tuple[int, ...]) -> list[Tensor]:
        """The values of every head with the kernels of some axes applied: one after the other, or each by itself."""
        fields = []
        for head, weight in enumerate(self.value.weight.unflatten(0, (self.heads, -1)).unbind()):
            z = linear(h, weight)
            if self.chained:
                for axis in axes:
                    z = apply_along(kernels[axis][:, head], z, axis)
                fields.append(z)
            else:
                fields += [apply_along(kernels[axis][:, head], z, axis) for axis in axes]
        return fields

    def mixed_by_slabs(self, h: Tensor, kernels: list[Tensor], domain: Domain) -> Tensor:
        """`normalised_mix` where a rank has some planes of y (collective).

        Kernels of x and z act within them. For that of y whole columns are brought together, are mixed there, and go
        back: in parallel features leave once for all heads, because a kernel does not mix channels; chained ones leave
        with the other two kernels applied.
        """
        line, width = domain.y, h.shape[-1]
        apart = self.matrices(1 if self.chained else 3)
        of_y = apart[:, 0 if self.chained else 1]
        fields = self.transformed(operand(h), kernels, (0, 2))
        shares = domain.volumes.expand(len(h), 1, *domain.shape)
        leaving = torch.cat(fields if self.chained else [h], dim=-1).movedim(-1, 1).to(shares)

        def of_columns(f: Tensor) -> Tensor:
            volumes, values = f[0, -1], operand(f[:, :-1].movedim(1, -1))
            if self.chained:
                found = [apply_along(kernels[1][:, k], z, 1) for k, z in enumerate(values.split(width, dim=-1))]
            else:
                found = self.transformed(values, kernels, (1,))
            return normalised_mix(volumes, of_y, EPSILON, found, line.total).movedim(-1, 1)

        mixed = line.columns(torch.cat([leaving, shares], dim=1), of_columns).movedim(1, -1)
        if self.chained:
            return mixed
        return mixed + normalised_mix(domain.volumes, apart[:, ::2].flatten(0, 1), EPSILON, fields, line.total)

    def axis_kernels(self, h: Tensor, domain: Domain) -> list[Tensor]:
        """Kernels of the three axes, (batch, heads, n, n), ready to be summed over their last index."""
        shares = [torch.full_like(f.weights, 1.0 / f.n) if self.published else f.weights for f in domain.lines]
        found = []
        lines, averages = [f.complete_here for f in domain.lines], whole_means(means(h, shares), domain.y)
        for line, mean, kernel in zip(lines, averages, self.kernels, strict=True):
            summary = self.enter(mean)  # a linear map of the mean is the mean of the linear map
            if self.published:
                found.append(kernel(summary, published_angles(line, self.rank)))
            else:
                angles = harmonic_angles(line, self.rank, self.modes)
                found.append(kernel(summary, angles) * (line.weights / math.sqrt(self.rank)))
        return found

    def matrices(self, axes: int) -> Tensor:
        """Of the mix, (heads, axes, out, width)."""
        matrices: Tensor = self.mix.weight.unflatten(1, (self.heads, axes, -1)).permute(1, 2, 0, 3)
        return matrices

    def normalised_mix(self, fields: list[Tensor], domain: Domain) -> Tensor:
        """Each channel of each field over its rms in the volume (published: its standard deviation), mixed.

        Taking off the mean as well, as the published networks do, would take it out of the prediction.
        """
        matrices = self.matrices(len(fields) // self.heads).flatten(0, 1).contiguous()
        if not self.published:
            mixed: Tensor = NormalisedMix.apply(domain.volumes, matrices, EPSILON, *fields)  # type: ignore[no-untyped-call]  # torch's
            return mixed
        total = torch.zeros_like(fields[0])
        for z, matrix in zip(fields, matrices, strict=True):
            variance, mean = torch.var_mean(z, dim=(1, 2, 3), keepdim=True, correction=0)
            total = total + linear((z - mean) * torch.rsqrt(variance + EPSILON), matrix)
        return total


def lift(channels: int, width: int) -> nn.Module:
    """From the field to features, each component by itself at first, as published."""
    inner = channels * -(-(width // 2) // channels)
    first = nn.Conv1d(channels, inner, 1, groups=channels)
    return nn.Sequential(first, nn.GELU(), nn.Conv1d(inner, width, 1, bias=False))


def projection(channels: int, width: int) -> nn.Module:
    """From features to the field, as published."""
    return nn.Sequential(nn.Linear(width, width // 2, bias=False), nn.GELU(), nn.Linear(width // 2, channels))


class IFactFormer(nn.Module):
    """``v <- v + B(v) / L`` with the axial block B shared by all L iterations.

    Yang, Li, Wang & Wang 2024 (Theor. Appl. Mech. Lett. 14, 100527) for -o, arXiv 2412.18840 for -m.

    Parameters
    ----------
    channels : of the field, in and out.
    width : channels between, and of each head.
    heads : number of heads.
    multiplier : rank of a kernel over `width`.
    iterations : L.
    variant : ``"quadrature"`` reads the true coordinates, uses whole wavenumbers along periodic axes and weighs sums
        with the cells; ``"published"`` is the released network (evenly spaced coordinates with both ends, random
        position features, plain sums, instance normalisation), which is bound to the grid it was trained on.
    positions : which axes get absolute position features (quadrature): only ``"walls"``, which commutes with
        shifts along periodic axes, or ``"all"``.
    modes : highest wavenumber of kernels and position features (quadrature).
    walls : number of directions that are not periodic (quadrature); the number of position features depends on it.
    products : every iteration also adds products of features and first derivatives at each point, made dimensionless
        with these lengths (`DifferentialOperator`). Axial kernels alone know of a neighbour off the axes only what the
        mean over its plane says, and the flow carries each point along with a velocity of its own. The first and the
        last map, perceptrons as published, are then linear, so that velocities come through as they are.
    no_slip : walls count as points where the field is zero (quadrature).
    recompute : compute a block's inner values again in the backward pass; saves memory.

    Attributes
    ----------
    reach : 0, though every point hears of all others: ranks bring together what kernels read. The published network is
        asked on one rank.

    Raises
    ------
    CaseError : `width` is odd; `no_slip` of the published network.
    """

    kind: Literal["state"] = "state"
    chained: bool

    def __init__(
        self,
        *,
        channels: Count = 3,
        width: Count = 96,
        heads: Heads = 5,
        multiplier: Heads = 3,
        iterations: Annotated[int, Field(ge=1, le=256)] = 10,
        variant: Literal["quadrature", "published"] = "quadrature",
        positions: Literal["walls", "all"] = "walls",
        modes: Wavenumber = 8,
        walls: Annotated[int, Field(ge=0, le=3)] = 1,
        products: Lengths | None = None,
        no_slip: bool = False,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        if width % 2:
            raise CaseError(f"[operator] width = {width}: should be even")
        if no_slip and variant == "published":
            raise CaseError("[operator] no_slip: the published network has no walls among its points")
        self.iterations, self.positions, self.modes, self.walls = iterations, positions, modes, walls
        self.recompute, self.published = recompute, variant == "published"
        self.grid_free = not self.published
        self.reach: int | Literal["global"] = "global" if self.published else 0
        shifts = self.grid_free and positions == "walls"
        self.symmetries = frozenset({"shift"} if shifts else ())
        self.lift = lift(channels, width) if products is None else nn.Conv1d(channels, width, 1)
        if self.published:
            scale = PUBLISHED_POSITION_SCALE
            self.frequencies = nn.Parameter(scale * torch.randn(3, width // 2), requires_grad=False)
        self.position = nn.Linear(width if self.published else self.position_features, width)
        self.block = AxialBlock(width, heads, multiplier * width, modes, self.chained, self.published)
        self.products, self.no_slip = products, no_slip
        self.project = projection(channels, width) if products is None else Channelwise(4 * width, channels)
        if products is not None:
            self.factors = Channelwise(4 * width, 2 * width)
            for last in (self.project, self.block.leave):  # products of products are large before they are learned
                nn.init.zeros_(cast(Tensor, last.weight))

    @property
    def position_features(self) -> int:
        """Number of sines and cosines that `harmonics` gives."""
        axes = 3 if self.positions == "all" else self.walls
        return max(2 * self.modes * axes, 1)

    def forward(self, field: Tensor, domain: Domain) -> Tensor:
        """``(batch, channels, nx, ny, nz)`` to a field on the same points.

        Raises
        ------
        CaseError : the domain has another number of walled directions.
        """
        if domain.periodic.count(False) != self.walls and not self.published:
            found = domain.periodic.count(False)
            raise CaseError(f"[operator] made for {self.walls} walled directions, asked to act on {found}")
        here = domain.like(field)
        if self.no_slip:
            field, here = with_walls(field, here)
        v = self.lift(field.flatten(2)).unflatten(2, field.shape[2:]).movedim(1, -1)
        v = v + self.position(self.features(here).to(v))
        v = walk(v, lambda u, last: self.change(u, here), self.iterations, self.recompute)
        answer = self.answer(v, here)
        return without_walls(answer, here) if self.no_slip else answer

    def answer(self, v: Tensor, domain: Domain) -> Tensor:
        """From features, channels last, to the field."""
        field: Tensor
        if self.products is None:
            field = self.project(v).movedim(-1, 1)
        else:
            field = self.project(with_derivatives(v.movedim(-1, 1), domain, self.products))
        return field

    def change(self, v: Tensor, domain: Domain) -> Tensor:
        """What an iteration adds, times L: ``(batch, nx, ny, nz, width)`` to the same."""
        found: Tensor = self.block(v, domain)
        if self.products is None:
            return found
        factors = self.factors(with_derivatives(v.movedim(-1, 1), domain, self.products))
        return found + dealiased_product(factors, nn.Identity(), domain).movedim(1, -1)

    def features(self, domain: Domain) -> Tensor:
        """Absolute position features, (nx, ny, nz, features)."""
        if not self.published:
            return harmonics(domain, self.modes, self.positions == "all")
        coordinates = torch.meshgrid(*(published_coordinates(line) for line in domain.lines), indexing="ij")
        angles = 2.0 * math.pi * torch.stack(coordinates, dim=-1) @ self.frequencies.to(domain.volumes)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class IFactFormerM(IFactFormer):
    """Parallel axial kernels; otherwise see `IFactFormer`."""

    chained = False


class IFactFormerO(IFactFormer):
    """Chained axial kernels; otherwise see `IFactFormer`."""

    chained = True
