"""A small convolutional network for the subgrid stress; it says how many halo planes it reads."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import pad

from closures.algebraic.invariants import safe_ratio
from closures.operators.fno import Count
from closures.operators.stress import Cells, deviator, limited, matrix, scalars, scale, six, size
from closures.operators.tensor_basis import SCALARS, Backscatter


class SubgridCNN(nn.Module):
    """``tau = scale N(g / |g|, cell and wall Reynolds numbers of the neighbourhood)``.

    Features and scale are those of `TensorBasis`, so the model is Galilean invariant, free of units and zero in
    uniform flow; it is not equivariant under rotations. The field is padded once, by `reach` points on every side
    (periodic, or with copies of the nearest plane at a wall), and all convolutions are without padding: a slab with
    its neighbours' planes therefore gives the values of the whole field to round-off.

    Parameters
    ----------
    width, depth : channels and number of hidden layers.
    kernel : points along each direction of the stencil of each hidden layer, odd.
    backscatter : see `closures.operators.stress.limited`.
    """

    kind: Literal["stress"] = "stress"
    grid_free = True
    symmetries = frozenset({"galilean", "shift"})

    def __init__(
        self,
        *,
        width: Count = 16,
        depth: Annotated[int, Field(ge=1, le=16)] = 2,
        kernel: Literal[1, 3, 5, 7] = 3,
        backscatter: Backscatter = None,
    ) -> None:
        super().__init__()
        self.reach, self.backscatter = depth * (kernel // 2), backscatter
        sizes = [9 + SCALARS, *[width] * depth]
        layers = [m for a, b in pairwise(sizes) for m in (nn.Conv3d(a, b, kernel), nn.GELU())]
        self.layers = nn.Sequential(*layers, nn.Conv3d(width, 6, 1))

    def forward(self, gradient: Tensor, cells: Cells) -> Tensor:
        """``gradient`` (batch, 3, 3, nx, ny, nz), ``[i][j] = d_j u_i`` in 1/time, to stresses (batch, 6, nx, ny, nz).

        Order xx yy zz xy xz yz, velocity^2. Where cells have ``halos`` it has ``2 reach`` planes less in y.
        """
        g = size(gradient)
        unit = safe_ratio(gradient, g[:, None, None].expand_as(gradient)).flatten(1, 2)
        seen = scalars(gradient, cells)
        shape = self.layers(self.padded(torch.cat([unit, seen], dim=1), cells))
        size_of = scale(gradient, cells, seen[:, 1])[:, None]
        if cells.halos and self.reach:
            inner = slice(self.reach, -self.reach)
            gradient, size_of = gradient[..., inner, :], size_of[..., inner, :]
            cells = Cells(_cut(cells.delta, inner), cells.nu)
        tau = size_of * six(deviator(matrix(shape)))
        return limited(tau, gradient, cells, self.backscatter)

    def padded(self, features: Tensor, cells: Cells) -> Tensor:
        """Ghost points on every side that has no halo yet."""
        for d, periodic in enumerate(cells.periodic):
            if self.reach and not (d == 1 and cells.halos):
                sides = [0] * 6
                sides[2 * (2 - d)] = sides[2 * (2 - d) + 1] = self.reach
                features = pad(features, sides, mode="circular" if periodic else "replicate")
        return features


def _cut(values: Tensor, inner: slice) -> Tensor:
    """The inner planes in y of something that broadcasts to a field."""
    return values if values.ndim < 2 or values.shape[-2] == 1 else values[..., inner, :]
