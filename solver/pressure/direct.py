"""Direct pressure solver: Fourier modes along Fourier axes, eigenvectors along finite-volume ones.

Lynch, Rice & Thomas (1964), Numer. Math. 6, 185. Exact to round-off on any stretching. Along slabs of y each rank has
the eigenvectors of its own cells, as if the potential vanished in all others; what it is in the cells beside them, two
numbers a column, comes from `solver.pressure.interfaces`.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor

from solver.discretisation.calculus import Components, Operators
from solver.discretisation.staggered import edge, join, y_slowest
from solver.grid.axis import Array
from solver.pressure.interfaces import Interfaces
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


class Columns:
    """``(d2/dy2 + s) phi = f`` of all columns of one grid with finite volumes along y.

    Parameters
    ----------
    operators : the discrete calculus.
    symbol : s of each column, <= 0, (cx, 1, cz), float64; 0 of one of them.
    """

    def __init__(self, operators: Operators, symbol: Array) -> None:
        slabs, line = operators.decomposition, operators.grid.volume_axes[1]
        own, tensor = slabs.planes, operators.tensor
        values, q = line.laplacian if slabs.size == 1 else line.laplacian_within(own)
        if slabs.size == 1:
            values = np.where(values > -1e-12 * np.abs(values).max(), 0.0, values)
        root = np.sqrt(line.width[own])
        forward, backward = q.T * root, q / root[:, None]
        whole = symbol + values[:, None]
        inverse = np.where(whole == 0.0, 0.0, 1.0 / np.where(whole == 0.0, 1.0, whole))
        self.forward, self.backward = tensor(forward), tensor(backward)
        self.inverse = y_slowest(tensor(inverse))
        self.interfaces = None
        if slabs.size == 1:
            return
        beside = np.array([line.coupling[own.start], line.coupling[own.stop]]) / line.width[own][[0, -1]]
        feed, read = -forward[:, [0, -1]] * beside, backward[[0, -1]]
        responses = np.tensordot((read[:, None, :] * feed.T).reshape(4, -1), inverse, (1, 1))
        self.feed, self.read, self.gap = tensor(feed), tensor(read), float(line.spacing[own.stop])
        self.interfaces = Interfaces(operators, responses, int(symbol.argmax()))

    def solve(
        self, f: Tensor, last: Tensor | None = None, share: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The potential; the plane of it that follows this slab, and the sum over ranks of `share` (collective).

        `last` is v at the upper end of the slab, whose divergence in the cell above `f` lacks there, if it does. On one
        rank there is neither that plane nor a sum.
        """
        a = apply_matrix(self.forward, f, 1) * self.inverse
        if self.interfaces is None:
            return apply_matrix(self.backward, a, 1), None, None
        ends = apply_matrix(self.read, a, 1)
        if last is not None:  # v across an interface is a jump of the potential by the gap between the cells
            ends = join([edge(ends, 1, 0), edge(ends, 1, -1) + self.gap * last], 1)
        found = self.interfaces.solve(ends, f, last, share)
        a = a + apply_matrix(self.feed, found.beside, 1) * self.inverse
        phi = self.interfaces.with_mean(apply_matrix(self.backward, a, 1), found.mean[..., :-1])
        after = edge(found.beside, 1, -1) if self.interfaces.goes_on else edge(phi, 1, -1)
        return phi, self.interfaces.with_mean(after.clone(), found.mean[..., -1:]), found.total


class DirectPressure:
    """Solves ``div grad phi = rhs`` for coefficients, zero normal gradient at walls, zero mean.

    Attributes
    ----------
    carries : whether ranks hear from one another in a solve, and may send more along.
    """

    def __init__(self, operators: Operators) -> None:
        self.eigenvectors: dict[int, tuple[Tensor, Tensor]] = {}
        symbol = np.zeros((1, 1, 1))
        for axis, line in operators.grid.volume_axes.items():
            if axis == 1:
                continue
            values, q = line.laplacian
            root = np.sqrt(line.width)
            self.eigenvectors[axis] = operators.tensor(q.T * root), operators.tensor(q / root[:, None])
            symbol = symbol + _along(np.where(values > -1e-12 * np.abs(values).max(), 0.0, values), axis)
        for axis, k in operators.local_wavenumbers.items():
            symbol = symbol - _along(k, axis) ** 2
        self.columns, self.inverse = None, None
        if operators.grid.y.is_fourier:
            inverse = np.where(symbol == 0.0, 0.0, 1.0 / np.where(symbol == 0.0, 1.0, symbol))
            self.inverse = y_slowest(operators.tensor(inverse))
        else:
            self.columns = Columns(operators, symbol)
        self.carries = self.columns is not None and operators.decomposition.size > 1

    def of_velocity(
        self, operators: Operators, velocity: Components, share: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The potential of what a velocity diverges, the plane of it that follows this slab, and a sum over ranks.

        Where the solve `carries`, it brings what planes at the ends of slabs need of their neighbours, and the sum of
        the `share` of each rank, if it has one. Else the latter two are None.
        """
        if not self.carries:
            return self.solve(operators.divergence(velocity)), None, None
        last = edge(velocity[1], 1, -1)
        return self._solved(operators.divergence_above(velocity, torch.zeros_like(last)), last, share)

    def solve(self, rhs: Tensor) -> Tensor:
        """The potential whose gradient removes the divergence `rhs`."""
        return self._solved(rhs)[0]

    def _solved(
        self, f: Tensor, last: Tensor | None = None, share: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        beyond, total = None, None
        for axis, (forward, _) in self.eigenvectors.items():
            f = apply_matrix(forward, f, axis)
            last = None if last is None else apply_matrix(forward, last, axis)
        if self.inverse is not None:
            f = f * self.inverse
        elif self.columns is not None:
            f, beyond, total = self.columns.solve(f, last, share)
        for axis, (_, backward) in self.eigenvectors.items():
            f = apply_matrix(backward, f, axis)
            beyond = None if beyond is None else apply_matrix(backward, beyond, axis)
        return f, beyond, total


def _along(values: Array, axis: int) -> Array:
    """Shaped to broadcast along `axis`."""
    return values.reshape([-1 if d == axis else 1 for d in range(3)])


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
