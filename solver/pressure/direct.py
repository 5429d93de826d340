"""Direct pressure solver: Fourier modes along Fourier axes, eigenvectors along finite-volume ones.

Lynch, Rice & Thomas (1964), Numer. Math. 6, 185. Exact to round-off on any stretching.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor

from solver.discretisation.calculus import Operators
from solver.discretisation.staggered import y_slowest
from solver.pressure.report import SolveReport


def apply_matrix(matrix: Tensor, f: Tensor, axis: int) -> Tensor:
    """Matrix product along one axis of a field whose memory has y slowest."""
    g = f.transpose(-3, -2)
    if axis == 2:
        return (g @ matrix.T).transpose(-3, -2)
    if axis == 0 and f.shape[-1] == 1:  # a plane flow: one product instead of a vector for each y, 18 times as fast
        return (g.squeeze(-1) @ matrix.T).unsqueeze(-1).transpose(-3, -2)
    if axis == 0:
        return (matrix @ g).transpose(-3, -2)
    product = matrix @ g.reshape(*g.shape[:-3], g.shape[-3], g.shape[-2] * g.shape[-1])
    return product.view(*g.shape[:-3], -1, *g.shape[-2:]).transpose(-3, -2)


class DirectPressure:
    """Solves ``div grad phi = rhs`` for coefficients, zero normal gradient at walls, zero mean."""

    def __init__(self, operators: Operators) -> None:
        self.decomposition = operators.decomposition
        self.eigenvectors: dict[int, tuple[Tensor, Tensor]] = {}
        symbol = operators.tensor(np.zeros((1, 1, 1)))
        self.transposed = not operators.grid.y.is_fourier
        for axis, line in operators.grid.volume_axes.items():
            values, q = line.laplacian
            values = np.where(values > -1e-12 * np.abs(values).max(), 0.0, values)
            root = np.sqrt(line.width)
            self.eigenvectors[axis] = operators.tensor(q.T * root), operators.tensor(q / root[:, None])
            symbol = symbol + self._transposed(operators.along(values, axis), axis)
        for axis, k in operators.wavenumber.items():
            symbol = symbol - self._transposed(k, axis) ** 2
        self.inverse = y_slowest(torch.where(symbol == 0, 0.0, 1.0 / torch.where(symbol == 0, 1.0, symbol)))

    def _transposed(self, values: Tensor, axis: int) -> Tensor:
        """Values along an axis in the layout of the solve, where x modes are shared among the ranks."""
        return values[self.decomposition.modes] if axis == 0 and self.transposed else values

    def solve(self, rhs: Tensor) -> Tensor:
        """The potential whose gradient removes the divergence `rhs`."""
        f = rhs
        for axis in (0, 2):
            if axis in self.eigenvectors:
                f = apply_matrix(self.eigenvectors[axis][0], f, axis)
        if 1 in self.eigenvectors:
            f = self.decomposition.to_modes(f)
            f = apply_matrix(self.eigenvectors[1][0], f, 1)
            f = apply_matrix(self.eigenvectors[1][1], f * self.inverse, 1)
            f = self.decomposition.to_planes(f)
        else:
            f = f * self.inverse
        for axis in (0, 2):
            if axis in self.eigenvectors:
                f = apply_matrix(self.eigenvectors[axis][1], f, axis)
        return f


class DirectSolver:
    """The direct solver of the box as a `PressureSolver`."""

    name = "direct"

    def __init__(self, operators: Operators) -> None:
        self.direct = DirectPressure(operators)

    def solve(self, rhs: Tensor, out: Tensor) -> SolveReport:
        """Overwrite `out` by the solution, which does not depend on it."""
        start = time.perf_counter()
        out.copy_(self.direct.solve(rhs))
        return SolveReport(True, "CONVERGED_DIRECT", 1, 0.0, time.perf_counter() - start)
