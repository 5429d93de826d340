"""Conjugate gradients that recycle: deflated by Ritz vectors harvested from the systems before.

Deflated conjugate gradients: Saad, Yeung, Erhel & Guyomarc'h (2000), SIAM J. Sci. Comput. 21, 1909; harvesting in
windows while the iteration runs: Wang, de Sturler & Paulino (2007), Int. J. Numer. Meth. Engng 69, 2441.

Blocks of vectors are stored as rows.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg

from closures.linear_families.sequences.system import Apply, Operator, Solution, solution

TINY = 1e-14


def recycling_cg(
    a: Operator,
    b: np.ndarray,
    recycled: np.ndarray | None = None,
    *,
    precondition: Apply | None = None,
    k: int = 20,
    window: int = 20,
    harvest: int = 200,
    tolerance: float = 1e-8,
    max_iterations: int = 10_000,
) -> tuple[Solution, np.ndarray | None]:
    """Solve ``A x = b`` from a zero guess; A and the preconditioner M symmetric positive definite.

    Parameters
    ----------
    a : anything with ``@``.
    b : right-hand side, ``(n,)``.
    recycled : ``(<= k, n)``, what the previous solve returned; None starts afresh.
    precondition : applies ``M^-1``; may differ from system to system.
    k : vectors kept; 0 is the plain method and returns None.
    window : steps between two extractions.
    harvest : steps that are looked at; the later ones cost no more than plain steps. 0 keeps what was recycled.
    tolerance : of the true residual relative to ``|b|``.

    Returns
    -------
    tuple : the solution, and approximations of the eigenvectors of ``M^-1 A`` with the smallest eigenvalues.
    """
    apply = precondition or (lambda r: r)
    deflation = _Deflation(a, recycled)
    ritz = _Harvest(k, window, harvest, deflation, apply) if k and harvest else None
    b_norm = float(np.linalg.norm(b))
    target = tolerance * b_norm
    x, r, products = deflation.start(b)
    history: list[float] = []
    z = apply(r)
    rz = float(r @ z)
    p = deflation.project(z)
    while float(np.linalg.norm(r)) > target and len(history) < max_iterations:
        ap = a @ p
        curvature = float(p @ ap)
        if not curvature > 0:  # not positive definite, or nothing left to gain
            break
        alpha = rz / curvature
        x += alpha * p
        r -= alpha * ap
        products += 1
        history.append(float(np.linalg.norm(r)) / b_norm)
        if history[-1] <= tolerance:  # the last word has the true residual
            r, products = b - a @ x, products + 1
        previous, z = z, apply(r)
        if ritz is not None:
            ritz.see(p, ap, (previous - z) / alpha, curvature)
        rz, old = float(r @ z), rz
        p *= rz / old
        p += deflation.project(z)
    kept = ritz.finish() if ritz is not None else recycled if k else None
    return solution(a, b, x, tolerance, len(history), products, history), kept


class _Deflation:
    """The subspace W: an A-orthonormal basis, the Galerkin guess in it, and the projection that avoids it."""

    def __init__(self, a: Operator, recycled: np.ndarray | None) -> None:
        self.a, self.size = a, 0
        if recycled is None or not len(recycled):
            return
        images = np.stack([a @ w for w in recycled])
        energy = recycled @ images.T
        try:
            factor = scipy.linalg.cholesky(0.5 * (energy + energy.T), lower=True, check_finite=False)
        except np.linalg.LinAlgError:  # dependent for this matrix: start afresh
            return
        self.w = scipy.linalg.solve_triangular(factor, recycled, lower=True, check_finite=False)
        self.aw = scipy.linalg.solve_triangular(factor, images, lower=True, check_finite=False)
        self.size = len(recycled)

    def start(self, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
        """The best approximation in W, in the energy norm; its residual; the products with A so far."""
        if not self.size:
            return np.zeros_like(b), b.copy(), 0
        x = (self.w @ b) @ self.w
        return x, b - self.a @ x, self.size + 1

    def project(self, z: np.ndarray) -> np.ndarray:
        """``z`` made A-orthogonal to W."""
        return z - (self.aw @ z) @ self.w if self.size else z.copy()


class _Harvest:
    """Extracts harmonic Ritz vectors of ``M^-1 A`` from W and the search directions seen so far.

    ``(AZ)^T M^-1 (AZ) y = theta Z^T A Z y`` for the span Z; the images under ``M^-1 A`` of search directions are
    differences of the iteration's own vectors, so a step costs three copies, and an extraction a few matrix products.
    """

    def __init__(self, k: int, window: int, harvest: int, deflation: _Deflation, apply: Apply) -> None:
        self.k, self.left = k, harvest
        self.kept = self.filled = deflation.size
        self.rows = max(k, self.kept) + window
        self.block: np.ndarray | None = None
        self.deflation, self.apply = deflation, apply

    def _allocate(self, n: int) -> np.ndarray:
        """Rows of Z, A Z and M^-1 A Z, beginning with those of W."""
        block = np.empty((3, self.rows, n))
        if self.kept:
            block[0, : self.kept], block[1, : self.kept] = self.deflation.w, self.deflation.aw
            for image, row in zip(self.deflation.aw, block[2], strict=False):
                row[:] = self.apply(image)
        return block

    def see(self, p: np.ndarray, ap: np.ndarray, map_: np.ndarray, curvature: float) -> None:
        """Take one search direction, its image and its preconditioned image."""
        if self.left <= 0:
            return
        if self.block is None:
            self.block = self._allocate(p.size)
        self.left -= 1
        scale = 1 / np.sqrt(curvature)
        for rows, vector in zip(self.block, (p, ap, map_), strict=True):
            np.multiply(vector, scale, out=rows[self.filled])
        self.filled += 1
        if self.filled == self.rows:
            self._extract()

    def _extract(self) -> None:
        """Keep the k best of the span."""
        assert self.block is not None
        z, az, maz = self.block[:, : self.filled]
        energy, square = z @ az.T, az @ maz.T
        theta, y = scipy.linalg.eigh(0.5 * (energy + energy.T), check_finite=False)
        sound = theta > TINY * theta[-1]
        y = y[:, sound] / np.sqrt(theta[sound])
        inner = y.T @ (0.5 * (square + square.T)) @ y
        count = min(self.k, inner.shape[0])
        y = y @ scipy.linalg.eigh(inner, subset_by_index=(0, count - 1), check_finite=False)[1]
        for rows in self.block:
            rows[:count] = y.T @ rows[: self.filled]
        self.filled = count

    def finish(self) -> np.ndarray | None:
        """The vectors for the next system; what was recycled, if no step was taken."""
        if self.block is None:
            return self.deflation.w if self.kept else None
        self._extract()
        return self.block[0, : self.filled].copy()
