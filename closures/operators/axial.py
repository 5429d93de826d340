"""Low-rank kernels along one axis, made from one-dimensional summaries of the field (factorised attention)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn.functional import gelu

from closures.operators.domain import Domain, Line
from closures.operators.slab_line import PeriodSlab, SlabLine

ROTARY_BASE, ROTARY_SCALE = 10_000.0, 64.0


class AxisKernel(nn.Module):
    """``K(i, j) = q_i . k_j`` between the points of one axis, one kernel per head (FactFormer, Li et al. 2023).

    q and k are linear in a gated perceptron of the mean of the field over the two other axes, and are rotated by
    angles proportional to the coordinate, so that their product knows the distance between i and j.
    """

    def __init__(self, width: int, heads: int, rank: int) -> None:
        super().__init__()
        self.heads = heads
        self.reduce = nn.Linear(width, width, bias=False)
        self.norm = nn.LayerNorm(width)
        self.expand, self.contract = nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.query = nn.Linear(width, heads * rank, bias=False)
        self.key = nn.Linear(width, heads * rank, bias=False)

    def forward(self, mean: Tensor, angles: Tensor) -> Tensor:
        """``mean`` (batch, n, width) and ``angles`` (n, rank / 2) to kernels (batch, heads, n, n)."""
        gate, value = self.expand(self.norm(self.reduce(mean))).chunk(2, dim=-1)
        summary = self.contract(gelu(gate) * value)
        q, k = (
            rotated(f.unflatten(-1, (self.heads, -1)).transpose(1, 2), angles)
            for f in (self.query(summary), self.key(summary))
        )
        return q @ k.transpose(-1, -2)


def rotated(f: Tensor, angles: Tensor) -> Tensor:
    """Pairs (c, c + rank/2) of the last axis turned by `angles` (n, rank / 2)."""
    a, b = f.chunk(2, dim=-1)
    cosine, sine = angles.cos().to(f), angles.sin().to(f)
    return torch.cat([a * cosine - b * sine, b * cosine + a * sine], dim=-1)


def harmonic_angles(line: Line, rank: int, highest: int) -> Tensor:
    """Angles ``2 pi k x / L`` (periodic) or ``pi k x / L`` (walled), k = 0 .. highest in turn, (n, rank / 2).

    Whole turns per period make the kernel of a periodic axis a function of the periodic distance.
    """
    k = torch.arange(rank // 2, device=line.points.device) % (highest + 1)
    return (2.0 if line.periodic else 1.0) * math.pi * line.unit[:, None] * k


def published_angles(line: Line, rank: int) -> Tensor:
    """``64 x 10000^(-2 j / rank)`` of `published_coordinates`."""
    j = torch.arange(rank // 2, dtype=torch.float64)
    return published_coordinates(line)[:, None] * (ROTARY_SCALE * ROTARY_BASE ** (-2.0 * j / rank)).to(line.points)


def published_coordinates(line: Line) -> Tensor:
    """Evenly spaced from 0 to the length with both ends, whatever the grid and whether or not it is periodic."""
    return torch.linspace(0.0, line.length, line.n, dtype=line.points.dtype, device=line.points.device)


def harmonics(domain: Domain, highest: int, everywhere: bool) -> Tensor:
    """Sines and cosines of the coordinates, (nx, ny, nz, features): of walled axes, or of all.

    Where there is nothing to describe, one channel of zeros.
    """
    found = []
    for d, line in enumerate(domain.lines):
        if everywhere or not line.periodic:
            angles = harmonic_angles(line, 2 * (highest + 1), highest)[:, 1:]
            waves = torch.cat([angles.sin(), angles.cos()], dim=-1)
            shape = [-1 if k == d else 1 for k in range(3)]
            found.append(waves.reshape(*shape, 2 * highest).expand(*domain.shape, 2 * highest))
    return torch.cat(found, dim=-1) if found else domain.volumes.new_zeros((*domain.shape, 1))


def means(f: Tensor, weights: list[Tensor]) -> list[Tensor]:
    """`f` (batch, nx, ny, nz, channels) averaged over the two other axes of each: three of (batch, n, channels).

    In the type of the weights, which are one line an axis. The field is read twice, not three times.
    """
    x, y, z = weights
    with torch.autocast(f.device.type, enabled=False):
        f = f.to(x)
        plane = (x @ f.flatten(2)).unflatten(1, f.shape[2:])  # y, z and channels are left
        of_y, of_z = z @ plane, (y @ plane.flatten(2)).unflatten(1, plane.shape[2:])
        return [(y[:, None] * z).flatten() @ f.flatten(2, 3), of_y, of_z]


def whole_means(found: list[Tensor], line: Line) -> list[Tensor]:
    """`means` over the whole domain, of those over the part that is here: what a `line` along y is of (collective)."""
    if not isinstance(line, SlabLine | PeriodSlab):
        return found
    of_x, of_y, of_z = found
    everywhere = of_y.new_zeros((len(of_y), line.complete.n, of_y.shape[-1]))
    everywhere[:, line.own.start : line.own.stop] = of_y
    sizes = [of_x.shape[1], line.complete.n, of_z.shape[1]]
    return list(line.total(torch.cat([of_x, everywhere, of_z], dim=1)).split(sizes, dim=1))


def normalised_mix(
    volumes: Tensor, matrices: Tensor, epsilon: float, fields: list[Tensor], total: Callable[[Tensor], Tensor]
) -> Tensor:
    """`NormalisedMix` of parts of fields; `total` sums over all parts (collective)."""
    w, flat = volumes.flatten(), [z.flatten(1, 3) for z in fields]
    with torch.autocast(volumes.device.type, enabled=False):
        over_rms = torch.rsqrt(total(torch.stack([w @ z.to(w).square() for z in flat])) + epsilon)
        products = [z @ (m * r[:, None]).to(z).mT for z, m, r in zip(flat, matrices, over_rms, strict=True)]
        mixed: Tensor = torch.stack(products).sum(0, dtype=w.dtype).unflatten(1, volumes.shape)
    return mixed


def apply_along(kernel: Tensor, values: Tensor, axis: int) -> Tensor:
    """``sum_j K(i, j) V(.., j, ..)``: kernels (batch, n, n), values (batch, nx, ny, nz, channels).

    Matrix products on the values as they lie in memory: what follows the axis are columns, what precedes it a batch.
    """
    kernel = kernel[(slice(None), *[None] * axis)]
    return (kernel @ values.flatten(2 + axis)).reshape(values.shape)


class NormalisedMix(Function):
    """``sum_s M_s (z_s / rms z_s)``: fields over their rms in the volume, channel by channel, mixed pointwise.

    The rms divides the matrices instead of the fields, and the fields are never put together: what is left are the
    products and a few passes over one field at a time, and half the memory.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, volumes: Tensor, matrices: Tensor, epsilon: float, *fields: Tensor) -> Tensor:
        """Shares of the points (nx, ny, nz), ``M`` (s, out, channels) and fields (batch, nx, ny, nz, channels).

        The sums, over points and over fields, are in the type of the shares, as is the result.
        """
        w, over_rms = volumes.flatten(), []
        total = volumes.new_zeros((len(fields[0]), len(w), matrices.shape[1]))
        with torch.autocast(volumes.device.type, enabled=False):
            for z, matrix in zip(fields, matrices, strict=True):
                z = z.flatten(1, 3)
                over_rms.append(torch.rsqrt(w @ z.to(w).square() + epsilon))
                scaled = (matrix * over_rms[-1][:, None]).to(z).mT
                if z.dtype == total.dtype:
                    total.baddbmm_(z, scaled)
                else:
                    total += z @ scaled
        ctx.save_for_backward(volumes, matrices, torch.stack(over_rms), *fields)
        mixed: Tensor = total.unflatten(1, volumes.shape)
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        """With respect to ``M`` and the fields; with r = 1 / rms, ``d r / d z = -r^3 w z``."""
        volumes, matrices, over_rms, *fields = ctx.saved_tensors
        slope = slope.to(fields[0]).flatten(1, 3)
        turned = slope.mT.contiguous()  # products in half precision would do it every time
        w = volumes.flatten()[:, None].to(slope)
        of_matrices, of_fields = [], []
        for z, matrix, r in zip(fields, matrices, over_rms[:, :, None], strict=True):
            flat = z.flatten(1, 3)
            product = (turned @ flat).to(r)  # with respect to M r
            of_matrices.append((product * r).sum(0))
            along = r**3 * (product * matrix).sum(1, keepdim=True)
            of_field = slope @ (matrix * r).to(flat)
            of_fields.append(of_field.addcmul_(flat * along.to(flat), w, value=-1.0).view_as(z))
        return None, torch.stack(of_matrices), None, *of_fields
