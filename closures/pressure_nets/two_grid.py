"""A linear two-grid cycle of 3^3 convolutions: the classical method that a deep direction network starts from.

Every kernel is symmetric under reflections, so in a closed box (mirrored ghosts) it is a symmetric matrix and all
kernels of one grid commute: with the same smoothers before and after the coarse correction the cycle is symmetric.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool3d, conv3d, interpolate

from closures.pressure_nets.ends import OPEN, Ends, extended

CLASSES = 4  # of the points of a 3^3 stencil: centre, faces, edges, corners
MEMBERS = (1, 6, 12, 8)  # points of each class
MATRIX = (6.0, -6.0, 0.0, 0.0)  # the seven points of `objective.laplacian`, class by class


@dataclass(frozen=True)
class Kernels:
    """What a cycle applies; each kernel is given by the sums over its classes of points, (CLASSES,).

    Parameters
    ----------
    smoothers : G of the sweeps ``x += G (r - A x)``, before the coarse correction and in this order after it.
    coarse : pairs (L, G) of the sweeps ``c += G (f - L c)`` on the coarse grid; the first is ``c = G L f``, as c is 0.
    """

    smoothers: tuple[Tensor, ...]
    coarse: tuple[tuple[Tensor, Tensor], ...]


def stencil(kernel: Tensor) -> Tensor:
    """The 27 weights of a kernel, (3, 3, 3)."""
    away = (torch.arange(3) != 1).long()
    kind = away[:, None, None] + away[None, :, None] + away[None, None, :]
    return (kernel / kernel.new_tensor(MEMBERS))[kind]


def two_grid(kernels: Kernels, r: Tensor, ends: Ends = OPEN) -> Tensor:
    """The cycle for right-hand sides (batch, 1, nx, ny, nz) with even sides, from a zero guess.

    Restriction is the mean over 2^3 cells, prolongation repeats the value.
    """
    matrix = r.new_tensor(MATRIX)
    x = apply(kernels.smoothers[0], r, ends)
    for smoother in kernels.smoothers[1:]:
        x = x + apply(smoother, r - apply(matrix, x, ends), ends)
    f = avg_pool3d(r - apply(matrix, x, ends), 2)
    c = torch.zeros_like(f)
    for k, (operator, correction) in enumerate(kernels.coarse):
        inner = apply(operator, f, ends) if k == 0 else f - apply(operator, c, ends)
        c = c + apply(correction, inner, ends)
    x = x + interpolate(c, scale_factor=2, mode="nearest")
    for smoother in kernels.smoothers:
        x = x + apply(smoother, r - apply(matrix, x, ends), ends)
    return x


def apply(kernel: Tensor, f: Tensor, ends: Ends = OPEN) -> Tensor:
    """The convolution of a field with a kernel; the box ends as `ends` say."""
    return conv3d(extended(f, ends), stencil(kernel).to(f)[None, None])
