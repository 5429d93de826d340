"""The network of the deep conjugate direction method: residual in, search direction out."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from closures.pressure_nets.ends import OPEN, Beyond, Convolution, Convolution2d, Convolution3d, Ends

WIDTH = 16


class Block(nn.Module):
    """Two convolutions, the skip added after the rectifier."""

    def __init__(self, first: Convolution, second: Convolution) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, f: Tensor, periodic: Ends = OPEN) -> Tensor:
        """Shape kept."""
        return torch.relu(self.second(torch.relu(self.first(f, periodic)), periodic)) + f


class ConjugateDirectionNet(nn.Module):
    """Two resolutions of residual blocks (Kaneda et al. 2023, ICML, arXiv 2205.10763); fully convolutional.

    It knows the matrix it was trained on and nothing of solids; 97,457 parameters for ``trained_for = 64`` in three
    dimensions, 152,881 for 128, 32,657 for 64 in two.

    Parameters
    ----------
    dimensions : 2 or 3.
    trained_for : cells a side of the published setting: 128 has more blocks than 64.
    walls : what convolutions read beyond the box: "zeros" as published, for prescribed pressure, or "mirror", for
        closed boxes. Beyond a periodic end they read the other end.
    """

    kind: Literal["direction"] = "direction"
    grid_free = True
    coarsest = 2

    def __init__(
        self, *, dimensions: Literal[2, 3] = 3, trained_for: Literal[64, 128] = 64, walls: Beyond = "zeros"
    ) -> None:
        super().__init__()
        conv = Convolution3d if dimensions == 3 else Convolution2d
        self.pool = nn.AvgPool3d(2) if dimensions == 3 else nn.AvgPool2d(2)
        before, coarse, after = (1, 3, 2) if trained_for == 64 else (2, 5, 3)

        def layer(channels: int = WIDTH) -> Convolution:
            return conv(channels, WIDTH, walls)

        def blocks(count: int) -> nn.ModuleList:
            return nn.ModuleList([Block(layer(), layer()) for _ in range(count)])

        self.lift = layer(1)
        self.entry = layer()
        self.before = blocks(before)
        self.last = layer()
        self.coarse, self.after = blocks(coarse), blocks(after)
        self.project = nn.Conv3d(WIDTH, 1, 1) if dimensions == 3 else nn.Conv2d(WIDTH, 1, 1)

    def forward(self, residual: Tensor, fluid: Tensor, periodic: Ends = OPEN) -> Tensor:
        """Residuals of unit norm (batch, 1, nx, ny[, nz]) to directions alike; sides are even. `fluid` is not read."""
        f = torch.relu(self.entry(self.lift(residual, periodic), periodic))
        for block in self.before:
            f = block(f, periodic)
        f = torch.relu(self.last(f, periodic))
        coarse = self.pool(f)
        for block in self.coarse:
            coarse = block(coarse, periodic)
        f = interpolate(coarse, scale_factor=2, mode="nearest") + f
        for block in self.after:
            f = block(f, periodic)
        directions: Tensor = self.project(f)
        return directions
