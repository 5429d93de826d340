"""Pointwise invariants of the velocity gradient ``g[i][j] = d_j u_i``, as plain functions of tensors.

They are written as sums of squares wherever cancellation would spoil a zero, and their derivatives are finite at
zero flow; Inductor inlines them into the kernels of the models.
"""

from __future__ import annotations

import torch
from torch import Tensor

from solver.discretisation.velocity import Gradient

Six = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def safe_sqrt(f: Tensor) -> Tensor:
    """``sqrt(f)`` for f > 0, zero elsewhere, with a zero (not infinite) derivative there."""
    positive = f > 0
    return torch.where(positive, torch.sqrt(torch.where(positive, f, 1.0)), 0.0)


def safe_ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """``numerator / denominator`` where the denominator is positive, zero elsewhere.

    Examples
    --------
    >>> safe_ratio(torch.tensor([1.0, 1.0]), torch.tensor([2.0, 0.0]))
    tensor([0.5000, 0.0000])
    """
    positive = denominator > 0
    return torch.where(positive, numerator / torch.where(positive, denominator, 1.0), 0.0)


def symmetric(a: Gradient) -> Six:
    """``(a_ij + a_ji)/2`` in the order xx yy zz xy xz yz."""
    return (
        a[0][0],
        a[1][1],
        a[2][2],
        0.5 * (a[0][1] + a[1][0]),
        0.5 * (a[0][2] + a[2][0]),
        0.5 * (a[1][2] + a[2][1]),
    )


def contraction(a: Six, b: Six) -> Tensor:
    """``a_ij b_ij`` of two symmetric tensors."""
    diagonal = a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
    return diagonal + 2.0 * (a[3] * b[3] + a[4] * b[4] + a[5] * b[5])


def strain_norm(g: Gradient) -> Tensor:
    """``|S| = sqrt(2 s_ij s_ij)``, in 1/time."""
    s = symmetric(g)
    return safe_sqrt(2.0 * contraction(s, s))


def square_deviator(g: Gradient) -> Six:
    """``S^d``: the symmetric, trace-free part of ``g_ik g_kj`` (Nicoud & Ducros 1999, eq. 10)."""

    def product(i: int, j: int) -> Tensor:
        return g[i][0] * g[0][j] + g[i][1] * g[1][j] + g[i][2] * g[2][j]

    xx, yy, zz = product(0, 0), product(1, 1), product(2, 2)
    third = (xx + yy + zz) / 3.0
    xy, xz, yz = [0.5 * (product(i, j) + product(j, i)) for i, j in ((0, 1), (0, 2), (1, 2))]
    return xx - third, yy - third, zz - third, xy, xz, yz


def squared_norm(g: Gradient) -> Tensor:
    """``g_ij g_ij``: the sum of the squared singular values."""
    rows = [g[i][0] * g[i][0] + g[i][1] * g[i][1] + g[i][2] * g[i][2] for i in range(3)]
    return rows[0] + rows[1] + rows[2]


def _minor(g: Gradient, i: int, j: int) -> Tensor:
    """Cofactor (i, j), with sign, by cyclic indices."""
    a, b, c, d = (i + 1) % 3, (i + 2) % 3, (j + 1) % 3, (j + 2) % 3
    return g[a][c] * g[b][d] - g[a][d] * g[b][c]


def squared_minors(g: Gradient) -> Tensor:
    """Second invariant of ``g g^T`` as the sum of the squared 2 x 2 minors of g (Cauchy-Binet): never negative."""
    total = None
    for i in range(3):
        for j in range(3):
            minor = _minor(g, i, j)
            total = minor * minor if total is None else total + minor * minor
    assert total is not None
    return total


def determinant(g: Gradient) -> Tensor:
    """``det g``."""
    return g[0][0] * _minor(g, 0, 0) + g[0][1] * _minor(g, 0, 1) + g[0][2] * _minor(g, 0, 2)
