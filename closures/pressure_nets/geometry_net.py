"""A V-cycle whose stencils a small network reads off the geometry: linear in the residual, rebuilt for free."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import avg_pool3d, conv3d, interpolate

from closures.pressure_nets.ends import OPEN, Ends, extended

CHANNELS = 3  # of the image: prescribed pressure, fluid, not solid
NEIGHBOURS = 27


class VaryingStencil(nn.Module):
    """A 3^3 stencil for each cell, from the image around it: ``z(x) = sum_d K_d(x) r(x + d)``; 2,214 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Conv3d(CHANNELS, NEIGHBOURS, 3)
        nn.init.normal_(self.weights.weight, std=0.01)
        jacobi = torch.zeros(NEIGHBOURS)
        jacobi[NEIGHBOURS // 2] = 0.2  # damped, to start with
        self.weights.bias = nn.Parameter(jacobi)

    def forward(self, stencil: Tensor, residual: Tensor, periodic: Ends = OPEN) -> Tensor:
        """``stencil`` (1 or batch, 27, nx, ny, nz) applied to ``residual`` (batch, 1, nx, ny, nz)."""
        around, (nx, ny, nz) = extended(residual, periodic, "zeros"), residual.shape[-3:]
        total = torch.zeros_like(residual)
        for d in range(NEIGHBOURS):
            i, j, k = d // 9, d // 3 % 3, d % 3
            total = total + stencil[:, d : d + 1] * around[..., i : i + nx, j : j + ny, k : k + nz]
        return total

    def read(self, image: Tensor, periodic: Ends = OPEN) -> Tensor:
        """The stencils of an image (1 or batch, 3, nx, ny, nz), (1 or batch, 27, nx, ny, nz); nothing beyond walls."""
        return _read(self.weights, image, periodic)


class Blend(nn.Module):
    """One number for the whole image, the mean of a 3^3 convolution; 82 parameters."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.weights = nn.Conv3d(CHANNELS, 1, 3)
        nn.init.normal_(self.weights.weight, std=0.01)
        self.weights.bias = nn.Parameter(torch.tensor([start]))

    def read(self, image: Tensor, periodic: Ends = OPEN) -> Tensor:
        """(1 or batch, 1, 1, 1, 1)."""
        return _read(self.weights, image, periodic).mean((-3, -2, -1), keepdim=True)


def _read(convolution: nn.Conv3d, image: Tensor, periodic: Ends) -> Tensor:
    return conv3d(extended(image, periodic, "zeros"), convolution.weight, convolution.bias)


def _finer(x: Tensor, periodic: Ends) -> Tensor:
    """Trilinear interpolation to half the mesh size, constant in the half cells at walls."""
    if not any(periodic):
        return interpolate(x, scale_factor=2, mode="trilinear", align_corners=False)
    wide = interpolate(extended(x, periodic), scale_factor=2, mode="trilinear", align_corners=False)
    return wide[..., 2:-2, 2:-2, 2:-2]


class GeometryNet(nn.Module):
    """The network of NPSDO (Lan et al. 2024, ICML, arXiv 2310.00177): 20,582 parameters on four levels, 25,174 on five.

    Everything that depends on the geometry alone is computed once for each geometry and kept, so an application costs
    two stencils of 27 points a level.

    Parameters
    ----------
    levels : of the V-cycle above the coarsest; sides must be divisible by ``2^levels``.
    """

    kind: Literal["direction"] = "direction"
    grid_free = True

    def __init__(self, *, levels: Annotated[int, Field(ge=1, le=8)] = 4) -> None:
        super().__init__()
        self.levels, self.coarsest = levels, 2**levels
        self.before = nn.ModuleList([VaryingStencil() for _ in range(levels)])
        self.after = nn.ModuleList([VaryingStencil() for _ in range(levels)])
        self.bottom = VaryingStencil()
        self.kept = nn.ModuleList([Blend(1.0) for _ in range(levels)])
        self.added = nn.ModuleList([Blend(1.0) for _ in range(levels)])
        self._known: tuple[Tensor, tuple[object, ...], list[list[Tensor]]] | None = None

    def forward(self, residual: Tensor, fluid: Tensor, periodic: Ends = OPEN) -> Tensor:
        """Residuals (batch, 1, nx, ny, nz), and 1 in fluid cells (1 or batch, 1, nx, ny, nz), to directions."""
        geometry = self.geometry(fluid, periodic)
        levels: list[Tensor] = []
        x: Tensor = residual
        for i in range(self.levels):
            x = self.before[i](geometry[i][0], x, periodic)
            levels.append(x)
            x = avg_pool3d(x, 2)
        x = self.bottom(geometry[-1][0], x, periodic)
        for i in reversed(range(self.levels)):
            _, after, kept, added = geometry[i]
            up = _finer(x, periodic)
            x = kept * levels[i] + added * self.after[i](after, up, periodic)
        return x

    def geometry(self, fluid: Tensor, periodic: Ends = OPEN) -> list[list[Tensor]]:
        """Stencils and blends of every level; the last ones are kept while no gradient is recorded.

        They are those of one tensor, which is kept too: an address alone may come back with another geometry.
        """
        key = (fluid._version, periodic, *(w._version for w in self.parameters()))
        known = None if torch.is_grad_enabled() else self._known
        if known is not None and known[0] is fluid and known[1] == key:
            return known[2]
        image, found = torch.cat([torch.zeros_like(fluid), fluid, fluid], dim=1), []
        for i in range(self.levels):
            readers = self.before[i], self.after[i], self.kept[i], self.added[i]
            found.append([reader.read(image, periodic) for reader in readers])  # type: ignore[operator]  # torch's lists
            image = avg_pool3d(image, 2)
        found.append([self.bottom.read(image, periodic)])
        self._known = None if torch.is_grad_enabled() else (fluid, key, found)
        return found
