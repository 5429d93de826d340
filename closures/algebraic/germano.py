"""The products to filter and the contractions of Germano's identity, as plain functions of tensors.

A *resolved* set is ``(s_xx, s_yy, s_xy, s_xz, s_yz), |S|, (u, v, w)``: s_zz follows from the zero trace.
The sign: ``tau_dev = -2 C |S| s_ij`` at the grid filter and ``-2 alpha^2 C |S^| s^_ij`` at the test filter, with
``C = c_s^2 delta^2``, so that ``L_ij = hat(u_i u_j) - u^_i u^_j = -2 C M_ij`` up to its trace, with
``M_ij = alpha^2 |S^| s^_ij - hat(|S| s_ij)`` (Germano et al. 1991, Phys. Fluids A 3, 1760, eq. 6-9), and least
squares (Lilly 1992, Phys. Fluids A 4, 633, eq. 11) give ``C = -<L_ij M_ij> / (2 <M_ij M_ij>)``.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from closures.algebraic.invariants import Six, contraction, safe_sqrt

Resolved = tuple[Sequence[Tensor], Tensor, Sequence[Tensor]]


def products(resolved: Resolved) -> list[Tensor]:
    """The eighteen fields to filter: u_i, five of ``u_i u_j`` (w^2 subtracted from the diagonal), s_ij, |S| s_ij."""
    s, norm, (u, v, w) = resolved
    return [u, v, w, u * u - w * w, v * v - w * w, u * v, u * w, v * w, *s, *(norm * s_ij for s_ij in s)]


def _trace_free(a: Sequence[Tensor]) -> Six:
    return a[0], a[1], -(a[0] + a[1]), a[2], a[3], a[4]


def contractions(filtered: Sequence[Tensor], alpha: float) -> tuple[Tensor, Tensor]:
    """``L_ij M_ij`` and ``M_ij M_ij`` from the filtered `products`; M has no trace, so that of L drops out."""
    u, v, w = filtered[:3]
    square, s, stress = filtered[3:8], _trace_free(filtered[8:13]), _trace_free(filtered[13:18])
    leonard = [a - b for a, b in zip(square, (u * u - w * w, v * v - w * w, u * v, u * w, v * w), strict=True)]
    scaled_norm = alpha**2 * safe_sqrt(2.0 * contraction(s, s))
    xx, yy, zz, xy, xz, yz = (scaled_norm * a - b for a, b in zip(s, stress, strict=True))
    m = (xx, yy, zz, xy, xz, yz)
    shear = leonard[2] * m[3] + leonard[3] * m[4] + leonard[4] * m[5]
    return leonard[0] * m[0] + leonard[1] * m[1] + 2.0 * shear, contraction((*m,), (*m,))
