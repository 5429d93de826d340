"""The V-cycle of `solver.pressure.multigrid` with its numbers as parameters, differentiable.

Learned are, for each level, the weights and momenta of the smoother, the scale of the coarse correction, and a damping
of cells beside solids: all positive, all few. The cycle is the solver's own, written with sparse matrices that are read
off its systems and transfers. Learning through the cycle: Greenfeld, Galun, Kimmel, Yavneh & Basri (2019, ICML, arXiv
1902.10248) for transfers, Huang, Li & Xi (2023, SIAM J. Sci. Comput. 45, S1) for smoothers.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from solver.pressure.coarsening import System, Transfer, coarsen
from solver.pressure.multigrid import DENSE, Dense, open_faces
from solver.pressure.poisson import Poisson
from solver.pressure.smoothing import NEIGHBOURS, SPECTRAL_BOUND, Smoothing


@dataclass(frozen=True, eq=False)
class Level:
    """One level of a cycle on the cells of a box, numbered y slowest; matrices are sparse.

    Parameters
    ----------
    matrix : A, (n, n).
    inverse : of its diagonal, zero in solids, (n, 1).
    faces : open faces of each cell, (n,).
    prolong, restrict : interpolation from the coarser level, (n, m), and its transpose.
    """

    matrix: Tensor
    inverse: Tensor
    faces: Tensor
    prolong: Tensor
    restrict: Tensor


@dataclass(frozen=True, eq=False)
class Levels:
    """All of a problem: the levels from the finest on, and the inverse of what is below them, dense."""

    fine: tuple[Level, ...]
    bottom: Tensor

    @classmethod
    def of(cls, poisson: Poisson) -> Levels:
        """Those that `solver.pressure.multigrid` makes of a problem on one rank, in double precision."""
        layout, found = poisson.layout, []
        counts = (layout.shape[1],)
        system = System(layout, poisson.grid.axes, counts, poisson.coupling, poisson.diagonal)
        while np.prod(system.layout.shape) > DENSE and (coarser := coarsen(system)):
            found.append(_level(system, *coarser))
            system = coarser[0]
        return cls(tuple(found), Dense(system).inverse)


def _level(fine: System, coarse: System, transfer: Transfer) -> Level:
    layout = fine.layout
    number = layout.cells(torch.arange(layout.size)).reshape(-1)
    position = torch.full((layout.size,), -1)
    position[number] = torch.arange(len(number))
    diagonal = fine.diagonal[number]
    rows, columns, values = [torch.arange(len(number))], [torch.arange(len(number))], [diagonal]
    for axis in layout.active:
        c, there = fine.face_coupling(axis)[number], position[number + layout.stride[axis]]
        here = torch.nonzero((c > 0) & (there >= 0)).flatten()
        rows += [here, there[here]]
        columns += [there[here], here]
        values += [-c[here], -c[here]]
    matrix = _sparse(torch.cat(rows), torch.cat(columns), torch.cat(values), (len(number), len(number)))
    prolong = _interpolation(fine, coarse, transfer)
    inverse = torch.where(diagonal > 0, 1.0 / torch.where(diagonal > 0, diagonal, 1.0), 0.0)
    faces = open_faces(fine)[number].long()
    return Level(_tensor(matrix), inverse[:, None], faces, _tensor(prolong), _tensor(prolong.T.tocsr()))


def _sparse(rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> sp.csr_array:
    return sp.csr_array((values.numpy(), (rows.numpy(), columns.numpy())), shape=shape)


def _tensor(matrix: sp.csr_array) -> Tensor:
    pointers, columns = (torch.from_numpy(i.astype(np.int64)) for i in (matrix.indptr, matrix.indices))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch calls these matrices new
        return torch.sparse_csr_tensor(pointers, columns, torch.from_numpy(matrix.data), matrix.shape)


def _interpolation(fine: System, coarse: System, transfer: Transfer) -> sp.csr_array:
    """Read off the solver's: a fine cell sees its parent and the neighbours of that, so 27 probes tell all apart."""
    below, above = coarse.layout, fine.layout
    cells = below.cells(torch.arange(below.size)).shape
    at = torch.stack(torch.meshgrid(*map(torch.arange, cells), indexing="ij"))
    colour = (at[0] % 3) * 9 + (at[1] % 3) * 3 + at[2] % 3
    parent = [torch.arange(n) // 2 for n in above.cells(torch.arange(above.size)).shape]
    parent = [p.clamp(max=m - 1) for p, m in zip(parent, cells, strict=True)]
    rows, columns, values = [], [], []
    for c in range(27):
        source, x = below.zeros(torch.float64), above.zeros(torch.float64)
        below.cells(source).copy_((colour == c).double())
        transfer.add_correction(below.exchange(source), x)
        seen = above.cells(x)
        j = torch.nonzero(seen, as_tuple=True)
        target = (c // 9, c // 3 % 3, c % 3)
        near = [p[i] + (t - p[i] + 1) % 3 - 1 for p, i, t in zip(parent, j, target, strict=True)]
        rows.append(_flat(j, seen.shape))
        columns.append(_flat(near, cells))
        values.append(seen[j])
    shape = int(np.prod(above.shape)), int(np.prod(below.shape))
    return _sparse(torch.cat(rows), torch.cat(columns), torch.cat(values), shape)


def _flat(index: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
    return (index[0] * shape[1] + index[1]) * shape[2] + index[2]


class _Product(torch.autograd.Function):
    """A constant sparse matrix times a block; the gradient needs its transpose, which PyTorch would form every time."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, transpose: Tensor, x: Tensor) -> Tensor:
        ctx.transpose = transpose
        return matrix @ x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, Tensor]:
        return None, None, ctx.transpose @ gradient


def product(matrix: Tensor, transpose: Tensor, x: Tensor) -> Tensor:
    """``matrix @ x``, differentiable in `x`."""
    found: Tensor = _Product.apply(matrix, transpose, x)  # type: ignore[no-untyped-call]  # torch's
    return found


class LearnedCycle(nn.Module):
    """The cycle with free numbers; it starts as that of Chebyshev.

    Parameters
    ----------
    degrees : of the smoother on each level from the finest on; the last serves all that are coarser.
    damped : whether cells beside solids have a damping of their own.
    """

    def __init__(self, degrees: Sequence[int], damped: bool = False) -> None:
        super().__init__()
        start = [Smoothing.chebyshev(degree) for degree in degrees]
        self.log_weights = nn.ParameterList([_logarithm(s.weights) for s in start])
        self.log_momenta = nn.ParameterList([_logarithm(s.momenta) for s in start])
        self.log_coarse = nn.ParameterList([_logarithm([s.coarse]) for s in start])
        self.log_damping = nn.ParameterList([_logarithm([1.0] * (NEIGHBOURS + 1)) for _ in start] if damped else [])

    def forward(self, levels: Levels, rhs: Tensor, at: int = 0) -> Tensor:
        """One cycle from a zero guess for right-hand sides (n, count)."""
        if at == len(levels.fine):
            return levels.bottom @ rhs
        level, row = levels.fine[at], min(at, len(self.log_coarse) - 1)
        x = self._smooth(level, row, rhs, None)
        left = rhs - product(level.matrix, level.matrix, x)
        coarse = self.forward(levels, product(level.restrict, level.prolong, left), at + 1)
        x = x + self.log_coarse[row].exp() * product(level.prolong, level.restrict, coarse)
        return self._smooth(level, row, rhs, x)

    def _smooth(self, level: Level, row: int, rhs: Tensor, x: Tensor | None) -> Tensor:
        weights, momenta, inverse = self.log_weights[row].exp(), self.log_momenta[row].exp(), level.inverse
        if self.log_damping:
            damping = self.log_damping[row]
            inverse = (damping - damping.max()).exp()[level.faces, None] * inverse
        residual = rhs if x is None else rhs - product(level.matrix, level.matrix, x)
        before = torch.zeros_like(rhs) if x is None else x
        x = before + weights[0] * inverse * residual
        for weight, momentum in zip(weights[1:], momenta, strict=True):
            residual = rhs - product(level.matrix, level.matrix, x)
            x, before = x + momentum * (x - before) + weight * inverse * residual, x
        return x

    def expansion(self, points: int = 400) -> Tensor:
        """``|q|`` of every level at points of (0, 2], (levels, points)."""
        t = torch.linspace(0.0, SPECTRAL_BOUND, points + 1, dtype=torch.float64)[1:]
        found = []
        for log_weights, log_momenta in zip(self.log_weights, self.log_momenta, strict=True):
            weights, before = log_weights.exp(), torch.ones_like(t)
            q = before - weights[0] * t
            for weight, momentum in zip(weights[1:], log_momenta.exp(), strict=True):
                q, before = q + momentum * (q - before) - weight * t * q, q
            found.append(q.abs())
        return torch.stack(found)

    def smoothing(self) -> tuple[Smoothing, ...]:
        """The numbers; raises CaseError if a level does not contract."""

        def numbers(values: Tensor) -> tuple[float, ...]:
            return tuple(values.detach().exp().tolist())

        damping = [numbers(d - d.max()) for d in self.log_damping]
        rows = zip(self.log_weights, self.log_momenta, self.log_coarse, damping or repeat(None), strict=False)
        return tuple(Smoothing(numbers(w), numbers(m), float(c.detach().exp()), d) for w, m, c, d in rows)


def _logarithm(values: Sequence[float]) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values, dtype=torch.float64).log())


class Convergence(nn.Module):
    """Logarithm of the residual that conjugate gradients leave after some steps, for each step; the loss."""

    def __init__(self, cycle: LearnedCycle, steps: int) -> None:
        super().__init__()
        self.cycle, self.steps = cycle, steps

    def forward(self, levels: Levels, rhs: Tensor) -> Tensor:
        """Mean over right-hand sides (n, count) that the matrix can reach; smaller is faster."""
        matrix = levels.fine[0].matrix
        r, z = rhs, self.cycle(levels, rhs)
        p, rz = z, (r * z).sum(0)
        for step in range(self.steps):
            image = product(matrix, matrix, p)
            alpha = rz / (p * image).sum(0)
            r = r - alpha * image
            if step + 1 < self.steps:
                z = self.cycle(levels, r)
                new = (r * z).sum(0)
                p, rz = z + new / rz * p, new
        return (r.square().sum(0) / rhs.square().sum(0)).log().mean() / (2 * self.steps)
