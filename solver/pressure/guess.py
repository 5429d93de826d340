"""First guesses from previous solutions: the projection of the new one onto the space of the last few."""

from __future__ import annotations

import torch
from torch import Tensor

from solver.pressure.poisson import Poisson
from solver.pressure.report import PressureSolver, SolveReport

INDEPENDENT = 1e-7  # of what a new solution adds, relative to it, in the norm of the matrix


class ProjectedGuess:
    """Another solver, started from the best combination of previous solutions; a `PressureSolver`.

    Fischer (1998, Comput. Methods Appl. Mech. Eng. 163, 193, method 1): solutions are kept orthonormal in the energy
    norm of the matrix, so the guess costs a few dot products and one combination. When `size` are kept, the next
    solution starts a new basis.

    Parameters
    ----------
    solver : solves for what is left.
    poisson : its problem.
    size : solutions to keep.
    """

    def __init__(self, solver: PressureSolver, poisson: Poisson, size: int = 8) -> None:
        self.solver, self.poisson, self.size = solver, poisson, size
        self.basis: list[Tensor] = []  # x_i . A x_j = delta_ij

    def solve(self, rhs: Tensor, out: Tensor) -> SolveReport:
        """Overwrite `out` by the solution, whatever stood there.

        Raises
        ------
        PressureSolveFailure : the solver failed.
        """
        poisson, layout = self.poisson, self.poisson.layout
        b = poisson.source(rhs)
        layout.unpack(self._projected(b), out)
        report = self.solver.solve(rhs, out)
        self._keep(poisson.in_fluid(out))
        return report

    def _projected(self, b: Tensor) -> Tensor:
        """The combination of the basis with the least error in the energy norm."""
        layout = self.poisson.layout
        guess = layout.zeros(self.poisson.dtype)
        if self.basis:
            weights = layout.sum(torch.stack([torch.dot(x, b) for x in self.basis]))
            for weight, x in zip(weights.tolist(), self.basis, strict=True):
                guess.add_(x, alpha=weight)
        return guess

    def _keep(self, x: Tensor) -> None:
        """Add what `x` has that the basis lacks; start again when it is full."""
        if len(self.basis) >= self.size:
            self.basis = []
        product = self._product(x)
        whole = self.poisson.layout.dot(x, product)
        for _ in range(2):  # once more for orthogonality to round-off
            for old in self.basis:
                x = x.sub(old, alpha=self.poisson.layout.dot(old, product))
            product = self._product(x)
        rest = self.poisson.layout.dot(x, product)
        if rest > INDEPENDENT**2 * whole and rest > 0:
            self.basis.append(x / rest**0.5)

    def _product(self, x: Tensor) -> Tensor:
        layout = self.poisson.layout
        out = layout.zeros(self.poisson.dtype)
        self.poisson.stencil.apply(layout.exchange(x), out)
        return out
