"""A subgrid stress as a sum of Pope's tensors with learned scalar coefficients: equivariant by construction."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from closures.algebraic.invariants import safe_ratio
from closures.operators.fno import Count
from closures.operators.stress import (
    COEFFICIENT,
    Cells,
    deviator,
    limited,
    product,
    scalars,
    scale,
    six,
    size,
    symmetric,
    trace,
)

TENSORS, INVARIANTS, SCALARS = 10, 5, 2
Backscatter = Annotated[float, Field(ge=0)] | None


class TensorBasis(nn.Module):
    """``tau = -scale sum_n c_n(invariants) T_n``, with T_n Pope's ten tensors of the gradient ``g / |g|``.

    Pope 1975 (J. Fluid Mech. 72, 331); as a network Ling, Kurzawski & Templeton 2016 (J. Fluid Mech. 807, 155).
    Strain and rotation enter by their gradient, so a uniform velocity changes nothing; scalars and tensors turn with
    the axes, so rotations and reflections commute with the model; |g|, delta and nu carry all dimensions. The stress is
    symmetric and has no trace; `scale` is that of `closures.operators.stress`. New networks start as
    Smagorinsky's model with van Driest's damping.

    Parameters
    ----------
    width, depth : of the perceptron that gives the coefficients.
    tensors : how many of Pope's tensors, in his order.
    backscatter : the drain of energy is kept above ``-backscatter delta^2 |g|^3``; None leaves it free, 0 makes the
        model dissipative everywhere.
    c_s : of the first guess.
    """

    kind: Literal["stress"] = "stress"
    reach = 0
    grid_free = True
    symmetries = frozenset({"galilean", "shift", "reflection", "rotation"})

    def __init__(
        self,
        *,
        width: Count = 32,
        depth: Annotated[int, Field(ge=1, le=16)] = 2,
        tensors: Annotated[int, Field(ge=1, le=TENSORS)] = TENSORS,
        backscatter: Backscatter = None,
        c_s: Annotated[float, Field(ge=0, le=1)] = 0.1,
    ) -> None:
        super().__init__()
        self.tensors, self.backscatter = tensors, backscatter
        sizes = [INVARIANTS + SCALARS, *[width] * depth]
        hidden = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.GELU())]
        last = nn.Linear(width, tensors)
        self.coefficients = nn.Sequential(*hidden, last)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        with torch.no_grad():
            last.bias[0] = 2.0 * c_s**2 / COEFFICIENT

    def forward(self, gradient: Tensor, cells: Cells) -> Tensor:
        """``gradient`` (batch, 3, 3, nx, ny, nz), ``[i][j] = d_j u_i`` in 1/time, to stresses (batch, 6, nx, ny, nz).

        Order xx yy zz xy xz yz, velocity^2.
        """
        g = size(gradient)
        unit = safe_ratio(gradient, g[:, None, None].expand_as(gradient))
        basis, invariants = pope(unit, self.tensors)
        seen = scalars(gradient, cells)
        features = torch.cat([invariants, seen], dim=1)
        c = self.coefficients(features.movedim(1, -1)).movedim(-1, 1)
        tau = -scale(gradient, cells, seen[:, 1])[:, None] * (c[:, :, None] * basis).sum(dim=1)
        return limited(tau, gradient, cells, self.backscatter)


def pope(g: Tensor, count: int = TENSORS) -> tuple[Tensor, Tensor]:
    """The first `count` basis tensors (batch, count, 6, ...) and the five `invariants` of a gradient.

    Each of Pope's (1975) tensors is the deviator of ``A + A^T`` for one product A, because the strain s is
    symmetric and the rotation w antisymmetric.
    """
    s, w = 0.5 * symmetric(g), 0.5 * (g - g.transpose(1, 2))
    s2, w2 = product(s, s), product(w, w)
    products: list[Callable[[], Tensor]] = [
        lambda: 0.5 * s,
        lambda: product(s, w),
        lambda: 0.5 * s2,
        lambda: 0.5 * w2,
        lambda: -product(s2, w),
        lambda: product(s, w2),
        lambda: product(w, product(s, w2)),
        lambda: product(product(s, w), s2),
        lambda: product(s2, w2),
        lambda: product(w, product(s2, w2)),
    ]
    return torch.stack([six(deviator(symmetric(a()))) for a in products[:count]], dim=1), invariants(s, s2, w2)


def invariants(s: Tensor, s2: Tensor, w2: Tensor) -> Tensor:
    """Traces of s^2, w^2, s^3, s w^2, s^2 w^2, of a strain s, its square and that of a rotation w, (batch, 5, ...)."""
    pairs = ((s2, s), (s, w2), (s2, w2))  # all symmetric: the trace of a product is their contraction
    traces = [(a * b).sum(dim=(1, 2)) for a, b in pairs]
    return torch.stack([trace(s2), trace(w2), *traces], dim=1)
