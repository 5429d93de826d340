"""GCRO-DR(m, k): restarted GMRES that keeps k approximate eigenvectors, within a solve and from system to system.

Parks, de Sturler, Mackey, Johnson & Maiti (2006), SIAM J. Sci. Comput. 28, 1651, Algorithm 3, in the flexible form of
Carvalho, Gratton, Lago & Vasseur (2011), SIAM J. Sci. Comput. 33, 2602: preconditioned from the right, so that the
residual it watches is the true one, and with the recycled space kept as corrections to the solution, so that it
outlives the preconditioner. Real arithmetic: of a complex pair the real invariant plane is kept.

Blocks of vectors are stored as rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from closures.linear_families.sequences.system import Apply, Operator, Solution, solution

TINY = 1e-14


@dataclass(frozen=True)
class RecycleSpace:
    """What one solve hands to the next.

    Attributes
    ----------
    u : ``(k, n)``, corrections to the solution; ``A u`` is orthonormal for the system that made them.
    mu : ``(k, n)``, their image under the preconditioner's inverse ``M u`` (the same array without one). It only helps
        to choose what is kept; a preconditioner that has changed since makes the choice less sharp, not wrong.
    """

    u: np.ndarray
    mu: np.ndarray


def gcrodr(
    a: Operator,
    b: np.ndarray,
    recycled: RecycleSpace | None = None,
    *,
    precondition: Apply | None = None,
    m: int = 40,
    k: int = 20,
    tolerance: float = 1e-8,
    max_iterations: int = 10_000,
) -> tuple[Solution, RecycleSpace | None]:
    """Solve ``A x = b`` from a zero guess.

    Parameters
    ----------
    a : anything with ``@``; need not be symmetric.
    b : right-hand side, ``(n,)``.
    recycled : what the previous solve returned; None starts afresh.
    precondition : applies ``M^-1`` to a vector; may differ from system to system.
    m, k : largest subspace, and how much of it is kept, ``0 < k < m``.
    tolerance : of the residual relative to ``|b|``.

    Returns
    -------
    tuple : the solution, and the space for the next system (None if none was built).

    Raises
    ------
    ValueError : `k` is not between 0 and `m`.
    """
    if not 0 < k < m:
        raise ValueError(f"k = {k} should be between 0 and m = {m}")
    solve = _Solve(a, b, precondition, m, k, tolerance, max_iterations)
    if recycled is not None:
        solve.start(recycled)
    while not solve.done:
        solve.cycle()
    space = RecycleSpace(solve.u, solve.mu) if len(solve.u) else None
    return solution(a, b, solve.x, tolerance, len(solve.history), solve.products, solve.history), space


class _Solve:
    """The state of one solve; ``basis`` holds C in its first rows and the Arnoldi vectors below."""

    def __init__(
        self, a: Operator, b: np.ndarray, precondition: Apply | None, m: int, k: int, tolerance: float, limit: int
    ) -> None:
        self.a, self.b, self.precondition, self.m, self.k, self.limit = a, b, precondition, m, k, limit
        self.x, self.r = np.zeros_like(b), b.copy()
        self.b_norm = float(np.linalg.norm(b))
        self.target = tolerance * self.b_norm
        self.history: list[float] = []
        self.products = 0
        self.stalled = False
        self.basis = np.empty((m + 1, b.size))
        self.steps = self.basis if precondition is None else np.empty((m + 1, b.size))  # Z = M^-1 V, at the row of V
        self.u = self.mu = np.empty((0, b.size))

    @property
    def done(self) -> bool:
        """Converged, at the limit, or unable to improve."""
        small = float(np.linalg.norm(self.r)) <= self.target
        return small or self.stalled or len(self.history) >= self.limit

    def start(self, recycled: RecycleSpace) -> None:
        """Make ``A U = C`` with orthonormal C for this matrix, and remove the part of the residual in C."""
        images = np.stack([self.a @ u for u in recycled.u])
        self.products += len(images)
        q, r = scipy.linalg.qr(images.T, mode="economic", check_finite=False)
        kept = np.abs(np.diag(r)) > TINY * np.abs(r).max()
        if not kept.all():  # vectors that this matrix makes dependent are of no use
            return
        self.basis[: len(images)] = q.T
        self.u = scipy.linalg.solve_triangular(r, recycled.u, trans="T", check_finite=False)
        same = recycled.mu is recycled.u
        self.mu = self.u if same else scipy.linalg.solve_triangular(r, recycled.mu, trans="T", check_finite=False)
        along = q.T @ self.r
        self.x += along @ self.u
        self.r -= q @ along

    def cycle(self) -> None:
        """Arnoldi orthogonal to C, the least-squares step, and the space for the next cycle."""
        kept = len(self.u)
        g, ended = self._arnoldi(kept)
        columns = g.shape[1] - kept
        w = self.basis[: kept + columns + 1]
        scale = 1 / np.linalg.norm(self.u, axis=1)  # balances the columns of G
        g[:kept, :kept] = np.diag(scale)
        c = w @ self.r
        y = scipy.linalg.lstsq(g, c, check_finite=False)[0]
        self.x += (scale * y[:kept]) @ self.u + y[kept:] @ self.steps[kept : kept + columns]
        before = float(np.linalg.norm(self.r))
        self.r -= (g @ y) @ w
        if np.linalg.norm(self.r) <= self.target:  # the last word has the true residual
            self.r = self.b - self.a @ self.x
            self.products += 1
        self.stalled = ended or not np.linalg.norm(self.r) < before
        self._choose(g, w, scale[:, None] * self.u, scale[:, None] * self.mu)

    def _arnoldi(self, kept: int) -> tuple[np.ndarray, bool]:
        """Fill the basis below C; returns G with its upper left block still empty, and whether the space is exhausted.

        Stops early once the projected residual is below the target. Classical Gram-Schmidt, twice.
        """
        beta = float(np.linalg.norm(self.r))
        c, first = self.basis[:kept], self.r / beta
        first -= (c @ first) @ c  # what round-off has left in C grows as the residual shrinks
        self.basis[kept] = first / np.linalg.norm(first)
        g = np.zeros((self.m + 1, self.m))
        least = _GivensResidual(beta, self.m - kept)
        for j in range(kept, self.m):
            v = self.basis[j]
            if self.precondition is not None:
                self.steps[j] = self.precondition(v)
            w = self.a @ self.steps[j]
            length = float(np.linalg.norm(w))
            above = self.basis[: j + 1]
            for _ in range(2):
                h = above @ w
                w -= h @ above
                g[: j + 1, j] += h
            g[j + 1, j] = beta = float(np.linalg.norm(w))
            self.products += 1
            residual = least.append(g[kept : j + 2, j])
            self.history.append(residual / self.b_norm)
            ended = beta <= TINY * length
            self.basis[j + 1] = 0.0 if ended else w / beta
            if ended or residual <= self.target or len(self.history) >= self.limit:
                break
        return g[: j + 2, : j + 1], ended

    def _choose(self, g: np.ndarray, w: np.ndarray, u: np.ndarray, mu: np.ndarray) -> None:
        """Keep the harmonic Ritz vectors of smallest magnitude: ``G^T G p = theta G^T (W^T M Z) p``."""
        kept, columns = len(u), g.shape[1] - len(u)
        inner = np.zeros(g.shape)
        inner[kept : kept + columns, kept:] = np.eye(columns)
        inner[:, :kept] = w @ mu.T
        p = smallest_harmonic(g, inner, min(self.k, g.shape[1]))
        if p is None:
            return
        q, r = scipy.linalg.qr(g @ p, mode="economic", check_finite=False)
        if np.abs(np.diag(r)).min() <= TINY * np.abs(r).max():
            return
        p = scipy.linalg.solve_triangular(r, p.T, trans="T", check_finite=False).T
        new = p[:kept].T @ u + p[kept:].T @ self.steps[kept : kept + columns]
        if self.precondition is None:
            self.mu = new
        else:
            self.mu = p[:kept].T @ mu + p[kept:].T @ w[kept : kept + columns]
        self.u = new
        self.basis[: q.shape[1]] = q.T @ w


class _GivensResidual:
    """Norm of the residual of the growing Hessenberg least-squares problem."""

    def __init__(self, beta: float, columns: int) -> None:
        self.size, self.turns = beta, np.empty((columns, 2))
        self.n = 0

    def append(self, column: np.ndarray) -> float:
        """Take the next column and return the norm."""
        top = column[0]
        for i in range(self.n):
            c, s = self.turns[i]
            top = c * column[i + 1] - s * top
        length = float(np.hypot(top, column[-1]))
        c, s = (top / length, column[-1] / length) if length > 0 else (0.0, 1.0)
        self.turns[self.n] = c, s
        self.n += 1
        self.size *= abs(s)
        return self.size


def smallest_harmonic(g: np.ndarray, inner: np.ndarray, k: int) -> np.ndarray | None:
    """Real orthonormal basis of the k harmonic Ritz vectors of smallest magnitude, ``(columns, k)``.

    Of a complex pair both real dimensions are kept, or, where only one fits, its real part.
    """
    values, vectors = scipy.linalg.eig(g.T @ g, g.T @ inner, check_finite=False)
    usable = np.isfinite(values) & np.isfinite(vectors).all(axis=0)
    order = [i for i in np.argsort(np.abs(values), kind="stable") if usable[i] and values[i].imag >= 0]
    parts: list[np.ndarray] = []
    for i in order:
        parts.append(vectors[:, i].real)
        if values[i].imag > 0:
            parts.append(vectors[:, i].imag)
    if len(parts) < k:
        return None
    basis: np.ndarray = scipy.linalg.qr(np.stack(parts[:k], axis=1), mode="economic", check_finite=False)[0]
    return basis
