"""The numbers of a V-cycle's level: steps of the smoother, scale of the coarse correction, damping beside solids.

Step k of the smoother is ``x_k = x_(k-1) + m_k (x_(k-1) - x_(k-2)) + w_k W D^-1 (b - A x_(k-1))``, ``m_1 = 0``, with a
diagonal W between 0 and 1: the error shrinks by a polynomial q of ``W D^-1 A``, whose spectrum lies between 0 and 2,
because every row of A is weakly diagonally dominant. Where ``|q| < 1`` on (0, 2], the smoother contracts in the energy
norm, and ``(1 - q^2) A^-1 + s q P B P^T q`` is symmetric and positive definite for every scale ``s > 0`` and every
coarse cycle B that is: so the V-cycle is, level by level, whatever numbers were learned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.polynomial import Polynomial

from solver.errors import CaseError

SPECTRAL_BOUND = 2.0
NEIGHBOURS = 6


@dataclass(frozen=True)
class Smoothing:
    """One level of a cycle; the same steps before and after the coarse correction.

    Parameters
    ----------
    weights : of the Jacobi steps, ``w_k``.
    momenta : of the steps from the second on, ``m_k``.
    coarse : scale of the coarse correction.
    damping : of cells with 0 .. 6 open faces, relative to the greatest of them; None for no damping.

    Raises
    ------
    CaseError : the numbers do not make a positive definite cycle.
    """

    weights: tuple[float, ...]
    momenta: tuple[float, ...] = ()
    coarse: float = 1.0
    damping: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.momenta) != len(self.weights) - 1:
            raise CaseError(f"[pressure] smoother: {len(self.weights)} weights need one momentum less")
        if not self.coarse > 0:
            raise CaseError(f"[pressure] smoother: coarse = {self.coarse:g} should be larger than zero")
        if self.damping is not None and not (len(self.damping) == NEIGHBOURS + 1 and min(self.damping) > 0):
            raise CaseError("[pressure] smoother: damping should be seven numbers larger than zero")
        if not self.growth < 1.0:
            raise CaseError(
                f"[pressure] smoother: it enlarges some error {self.growth:.3g} times: weights {self.weights}, momenta "
                f"{self.momenta}"
            )

    @classmethod
    def chebyshev(cls, degree: int) -> Smoothing:
        """The fourth-kind Chebyshev iteration (J. Lottes 2023, eq. 3.10)."""
        weights = tuple((8 * k - 4) / (2 * k + 1) / SPECTRAL_BOUND for k in range(1, degree + 1))
        return cls(weights, tuple((2 * k - 3) / (2 * k + 1) for k in range(2, degree + 1)))

    @property
    def polynomial(self) -> Polynomial:
        """``q``, what the smoother leaves of an error that ``W D^-1 A`` multiplies by its argument."""
        before, q = Polynomial([1.0]), Polynomial([1.0])
        for weight, momentum in zip(self.weights, (0.0, *self.momenta), strict=True):
            before, q = q, q + momentum * (q - before) - weight * Polynomial([0.0, 1.0]) * q
        return q

    @property
    def growth(self) -> float:
        """Supremum of ``|q|`` over ``[eps, 2]``, from the ends and the extrema; at least 1 unless q falls at zero."""
        q = self.polynomial
        slope = q.deriv()
        if not np.isfinite(q.coef).all() or not slope(0.0) < 0.0:
            return float("inf")
        roots = np.asarray(slope.roots(), dtype=np.complex128)
        extrema = roots.real[np.abs(roots.imag) < 1e-9]
        inside = extrema[(extrema > 0.0) & (extrema < SPECTRAL_BOUND)]
        return float(np.abs(q(np.append(inside, SPECTRAL_BOUND))).max())
