"""Conjugate gradients deflated by a space that is carried from one pressure solve to the next.

Deflated conjugate gradients: Saad, Yeung, Erhel & Guyomarc'h (2000), SIAM J. Sci. Comput. 21, 1909; harvested in
windows while the iteration runs: Wang, de Sturler & Paulino (2007), Int. J. Numer. Meth. Engng 69, 2441. The same
method as `closures.linear_families.sequences.deflation`, for one matrix and vectors that ranks share: images under A
are kept, not formed anew.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from solver.pressure.layout import Layout
from solver.pressure.multigrid import Multigrid
from solver.pressure.poisson import Poisson
from solver.pressure.report import SolveReport, checked
from solver.pressure.scaled import solve_scaled

TINY = 1e-12


class Space:
    """Approximate eigenvectors of ``M^-1 A`` with the smallest eigenvalues, rows orthonormal in the norm of A.

    Parameters
    ----------
    layout : of the vectors.
    size : rows that are kept.
    window : search directions between two extractions.
    """

    def __init__(self, layout: Layout, size: int, window: int) -> None:
        self.layout, self.size, self.window = layout, size, window
        self.rows: Tensor | None = None  # (3, k, n): W, A W and M^-1 A W; the same during a solve
        self.better: Tensor | None = None  # what the next solve will have
        self.seen: list[Tensor] = []

    def correct(self, r: Tensor, x: Tensor) -> None:
        """Take the best correction in the space from the residual `r`, into `x`."""
        if self.rows is not None:
            along = self.layout.sum(self.rows[0] @ r)
            x.addmv_(self.rows[0].T, along)
            r.addmv_(self.rows[1].T, along, alpha=-1.0)

    def avoid(self, z: Tensor) -> Tensor:
        """``z`` made A-orthogonal to the space, in place."""
        return z if self.rows is None else z.addmv_(self.rows[0].T, self.layout.sum(self.rows[1] @ z), alpha=-1.0)

    def see(self, p: Tensor, image: Tensor, mapped: Tensor, curvature: float) -> None:
        """Take a search direction, its image under A and under ``M^-1 A``."""
        self.seen.append(torch.stack([p, image, mapped]) / curvature**0.5)
        if len(self.seen) >= self.window:
            self._extract()

    def settle(self) -> None:
        """At the end of a solve: the next one has the better space."""
        if self.seen:
            self._extract()
        self.rows = self.better

    def _extract(self) -> None:
        """Keep the best of the space and what was seen: ``(AZ)^T M^-1 (AZ) y = theta Z^T A Z y``."""
        block = torch.stack(self.seen, 1)
        self.seen = []
        if self.better is not None:
            block = torch.cat([self.better, block], 1)
        z, image, mapped = block
        energy, square = self.layout.sum(torch.stack([z @ image.T, image @ mapped.T]))
        values, y = torch.linalg.eigh(0.5 * (energy + energy.T))
        sound = values > TINY * values[-1]
        y = y[:, sound] / values[sound].sqrt()
        ritz = torch.linalg.eigh(y.T @ (0.5 * (square + square.T)) @ y).eigenvectors
        y = y @ ritz[:, : self.size]
        self.better = torch.stack([y.T @ part for part in block])


class RecycledPressure:
    """A `PressureSolver` whose later solves profit from the earlier ones.

    Parameters
    ----------
    poisson : the problem, the same for every solve.
    tolerance : relative residual at which to stop.
    max_iterations : give up after so many.
    preconditioner : from flat residuals to flat errors; by default a V-cycle, in the precision of the problem.
    size, window : of the space.
    lessons : solves that it is harvested from; afterwards it stays as it is, and costs only its projections.
    """

    name = "recycled"

    def __init__(
        self,
        poisson: Poisson,
        tolerance: float = 1e-8,
        max_iterations: int = 2000,
        preconditioner: Callable[[Tensor], Tensor] | None = None,
        size: int = 12,
        window: int = 12,
        lessons: int = 20,
    ) -> None:
        self.poisson, self.tolerance, self.max_iterations = poisson, tolerance, max_iterations
        self.precondition = preconditioner or Multigrid(poisson, poisson.dtype)
        self.space, self.lessons = Space(poisson.layout, size, window), lessons

    def solve(self, rhs: Tensor, out: Tensor) -> SolveReport:
        """Overwrite the guess `out` (zeros for none) by phi, of zero mean over each part without outlet.

        Raises
        ------
        PressureSolveFailure : tolerance not met in `max_iterations`, or the source is not finite.
        """
        report = solve_scaled(self.poisson, rhs, out, self._iterate, self.tolerance)
        if self.lessons > 0:
            self.space.settle()
            self.lessons -= 1
        return checked(self.name, report)

    def _iterate(self, r: Tensor, x: Tensor) -> tuple[str, int, float]:
        """`r` enters as the right-hand side and is overwritten by the residual, `x` by the solution."""
        layout, stencil, space = self.poisson.layout, self.poisson.stencil, self.space
        q = layout.zeros(self.poisson.dtype)
        stencil.apply(layout.exchange(x), q)
        space.correct(r.sub_(q), x)
        residual = layout.norm(r)
        if residual <= self.tolerance:
            return "CONVERGED_RTOL", 0, residual
        z = self.precondition(r).clone()
        rz = layout.dot(r, z)
        p = space.avoid(z.clone())
        for iteration in range(1, self.max_iterations + 1):
            curvature = float(layout.sum(stencil.apply(layout.exchange(p), q)))
            if not curvature > 0.0 or not rz > 0.0:
                return "DIVERGED_INDEFINITE", iteration, residual
            alpha = rz / curvature
            x.add_(p, alpha=alpha)
            residual = layout.norm(r.sub_(q, alpha=alpha))
            if residual <= self.tolerance or not residual < torch.inf:
                return "CONVERGED_RTOL" if residual <= self.tolerance else "DIVERGED_NANORINF", iteration, residual
            before, z = z, self.precondition(r).clone()
            if self.lessons > 0:
                space.see(p, q, (before - z) / alpha, curvature)
            rz_new, qz = layout.sum(torch.stack([torch.dot(r, z), torch.dot(q, z)])).tolist()
            p.mul_(-alpha * qz / rz).add_(space.avoid(z.clone()))
            rz = rz_new
        return "DIVERGED_MAX_IT", self.max_iterations, residual
