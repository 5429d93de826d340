"""Geometric multigrid in torch: a symmetric V-cycle, and conjugate gradients preconditioned by it.

Smoother: Chebyshev polynomials of the fourth kind of the Jacobi iteration (J. Lottes 2023, Numer. Linear Algebra Appl.
30, e2518, eq. 3.10): whole-array sweeps, no colours, and the only bound they need, 2 for ``D^-1 A``, holds for every
seven-point matrix. The same polynomial before and after the coarse correction keeps the cycle symmetric. Other numbers,
learned ones for example, may take their place level by level (`smoothing`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from solver.grid.axis import Axis
from solver.pressure.coarsening import System, Transfer, coarsen
from solver.pressure.layout import Layout
from solver.pressure.poisson import Poisson
from solver.pressure.report import SolveReport, checked
from solver.pressure.scaled import CONVERGED, ROUND_OFF, rounding, solve_scaled
from solver.pressure.smoothing import Smoothing
from solver.pressure.stencil import Stencil, make_stencil

CUBES = 2  # degree of the smoother where cells are nearly cubes
DENSE = 300  # cells solved directly
NEAR = 1e-9  # relative residuals below which rounding is looked at
NULL = 1e-12  # eigenvalues below, relative to the largest, are those of constants
SHARED = 8192  # cells below which ranks solve the same problem instead of parts of it


class Cycle(Protocol):
    """A symmetric approximate inverse on flat vectors."""

    layout: Layout

    def __call__(self, rhs: Tensor) -> Tensor:
        """Approximate solution for a flat right-hand side; lives until the next call, ghosts undefined."""
        ...


class Dense:
    """Pseudo-inverse of a small system, in double precision; its rows of solid cells are zero."""

    def __init__(self, system: System) -> None:
        self.layout = layout = system.layout
        coupling: dict[int, Tensor | float] = {d: system.face_coupling(d).double() for d in layout.active}
        exact = System(layout, system.axes, system.counts, coupling, layout.zeros(torch.float64))
        exact.set_diagonal()  # rounded sums would lift the null vectors
        stencil = Stencil(layout, coupling, exact.diagonal)
        x, out, columns = layout.zeros(torch.float64), layout.zeros(torch.float64), []
        index = torch.nonzero(exact.diagonal > 0).flatten()
        for i in index.tolist():
            x.zero_()[i] = 1.0
            stencil.apply(layout.exchange(x), out)
            columns.append(out[index])
        matrix = torch.stack(columns) if columns else x.new_zeros(0, 0)
        values, vectors = torch.linalg.eigh(0.5 * (matrix + matrix.T))
        keep = values > NULL * values.amax() if columns else values > 0
        inverse = torch.where(keep, 1.0 / torch.where(keep, values, 1.0), 0.0)
        live = torch.nonzero(layout.cells(exact.diagonal).reshape(-1) > 0).flatten()
        self.inverse = matrix.new_zeros(2 * [math.prod(layout.shape)])
        self.inverse[live[:, None], live] = (vectors * inverse) @ vectors.T
        self.x = layout.zeros(system.diagonal.dtype)

    def __call__(self, rhs: Tensor) -> Tensor:
        """The least-squares solution of least norm."""
        cells = self.layout.cells(self.x)
        cells.copy_((self.inverse @ self.layout.cells(rhs).reshape(-1).double()).view(cells.shape))
        return self.x


class Gathered:
    """A cycle that every rank runs on the whole of a problem that is shared as slabs."""

    def __init__(self, system: System, smoothing: Sequence[Smoothing]) -> None:
        layout, slabs = system.layout, system.layout.slabs
        assert slabs is not None
        self.layout, self.slabs, self.counts = layout, slabs, system.counts
        nx, ny, nz = layout.shape[0], sum(system.counts), layout.shape[2]
        whole = Layout((nx, ny, nz), layout.periodic, layout.device)
        start = sum(system.counts[: slabs.rank])
        self.mine = slice(start, start + layout.shape[1])
        self.whole, self.dtype = whole, system.diagonal.dtype
        coupling: dict[int, Tensor | float] = {
            d: whole.exchange(self._collect(system.face_coupling(d))) for d in layout.active
        }
        complete = System(whole, system.axes, (ny,), coupling, self._collect(system.diagonal))
        self.cycle = hierarchy(complete, smoothing)
        self.x = layout.zeros(self.dtype)

    def _collect(self, flat: Tensor) -> Tensor:
        """The whole field, flat, from everybody's slab."""
        cells = self.layout.cells(flat).transpose(0, 1)
        return self.whole.pack(self.slabs.all_planes(cells, self.counts), self.dtype)

    def __call__(self, rhs: Tensor) -> Tensor:
        """The cycle of the whole problem, cut to this slab."""
        whole = self.cycle(self._collect(rhs))
        self.layout.cells(self.x).copy_(self.whole.cells(whole)[self.mine])
        return self.x


class VCycle:
    """Smooth, correct from a coarser grid, smooth.

    Parameters
    ----------
    system : the fine problem.
    transfer, coarse : the way to the coarser problem and the cycle that solves it.
    smoothing : the smoother, and the scale of the coarse correction.
    """

    def __init__(self, system: System, transfer: Transfer, coarse: Cycle, smoothing: Smoothing) -> None:
        self.layout = system.layout
        damping = None if smoothing.damping is None else damping_of(system, smoothing.damping)
        self.stencil = make_stencil(system.layout, system.coupling, system.diagonal, damping)
        self.transfer, self.coarse, self.scale = transfer, coarse, smoothing.coarse
        dtype, device = system.diagonal.dtype, system.layout.device
        number = [torch.tensor(v, dtype=dtype, device=device) for v in (1.0, *smoothing.weights)]
        self.one, self.weight = number[0], number[1:]
        self.momentum = [torch.tensor(m, dtype=dtype, device=device) for m in (0.0, *smoothing.momenta)]
        self.x, self.other, self.residual = (system.layout.zeros(dtype) for _ in range(3))
        self.coarse_rhs = coarse.layout.zeros(dtype)

    def __call__(self, rhs: Tensor) -> Tensor:
        """One cycle from a zero guess."""
        self.stencil.relax(rhs, self.x, self.weight[0])
        x = self._smooth(self.x, self.other, rhs, 1)
        self.stencil.residual(self.layout.exchange(x), rhs, self.residual)
        self.transfer.restrict(self.residual, self.coarse_rhs)
        correction = self.coarse(self.coarse_rhs.mul_(self.scale))
        self.transfer.add_correction(self.coarse.layout.exchange(correction), x)
        return self._smooth(x, self.other if x is self.x else self.x, rhs, 0)

    def _smooth(self, x: Tensor, other: Tensor, rhs: Tensor, first: int) -> Tensor:
        """The steps `first` .. of the polynomial; step 0 starts from `x`, step 1 from the relaxed zero."""
        for k in range(first, len(self.weight)):
            self.layout.exchange(x)
            if k == first:
                growth = self.one if k == 0 else self.one + self.momentum[k]
                self.stencil.relax_more(x, rhs, other, growth, self.weight[k])
            else:
                self.stencil.relax_on(x, rhs, other, self.momentum[k], self.weight[k])
            x, other = other, x
        return x


def open_faces(system: System) -> Tensor:
    """How many of the six faces of each cell are open, flat; an outlet counts as closed."""
    layout = system.layout
    total = layout.zeros(system.diagonal.dtype)
    for axis in layout.active:
        opened = (system.face_coupling(axis) > 0).to(total.dtype)
        layout.core(total).add_(layout.core(opened)).add_(layout.shifted(opened, axis, -1))
    count = torch.zeros_like(total)
    layout.cells(count).copy_(layout.cells(total))
    return count


def damping_of(system: System, table: Sequence[float]) -> Tensor:
    """The damping of each cell, flat, by its number of open faces; the greatest of the table becomes 1."""
    values = torch.tensor(table, dtype=system.diagonal.dtype, device=system.layout.device)
    return (values / values.max())[open_faces(system).long()]


def choose_degree(axes: tuple[Axis, Axis, Axis]) -> int:
    """Degree of the smoother: where cells are far from cubes a point smoother must work harder."""
    aspect = max(float(np.max(axis.width) / np.min(axis.width)) for axis in axes)
    return CUBES if aspect < 1.5 else 3 if aspect < 3.0 else 6


def hierarchy(system: System, smoothing: Sequence[Smoothing]) -> Cycle:
    """The V-cycle of a system, down to a dense solve; gathered from the slabs where they become thin or small.

    `smoothing` begins with that of this level; the last one serves all that are coarser.
    """
    nx, nz = system.layout.shape[0], system.layout.shape[2]
    cells = nx * sum(system.counts) * nz
    if system.layout.slabs is not None and (min(system.counts) < 4 or cells < SHARED):
        return Gathered(system, smoothing)
    coarser = coarsen(system) if cells > DENSE else None
    if coarser is None:
        return Dense(system)
    coarse, transfer = coarser
    return VCycle(system, transfer, hierarchy(coarse, smoothing[1:] or smoothing), smoothing[0])


class Multigrid:
    """Multigrid cycle as a preconditioner of a `Poisson` problem, in a precision of its own.

    Parameters
    ----------
    poisson : the problem.
    dtype : precision of the cycle; by default single, which halves the memory traffic that a cycle costs, but double
        where there is no more than the dense level: nothing smooths there what single precision leaves.
    smoothing : of each level from the finest on, in place of Chebyshev's of degree 2, more where cells are stretched.
    """

    def __init__(
        self,
        poisson: Poisson,
        dtype: torch.dtype | None = None,
        smoothing: Sequence[Smoothing] = (),
    ) -> None:
        layout, small = poisson.layout, math.prod(poisson.grid.shape) <= DENSE
        self.dtype = dtype = dtype or (torch.float64 if small else torch.float32)
        counts = tuple(poisson.slabs.plane_counts)
        coupling = {d: c.to(dtype) if isinstance(c, Tensor) else c for d, c in poisson.coupling.items()}
        diagonal = poisson.diagonal.to(dtype)
        chosen = smoothing or [Smoothing.chebyshev(choose_degree(poisson.grid.axes))]
        self.cycle = hierarchy(System(layout, poisson.grid.axes, counts, coupling, diagonal), chosen)
        self.rhs = layout.zeros(dtype)

    def __call__(self, residual: Tensor) -> Tensor:
        """Approximate ``A^-1 residual`` in the cycle's precision, ghosts undefined; lives until the next call."""
        return self.cycle(self.rhs.copy_(residual))


class MultigridPressure:
    """Conjugate gradients preconditioned by a V-cycle; a `PressureSolver`.

    Parameters
    ----------
    poisson : the problem.
    tolerance : relative residual at which to stop.
    max_iterations : give up after so many.
    preconditioner : from flat residuals to flat errors; by default a single-precision V-cycle.
    name : what failures call it.
    """

    def __init__(
        self,
        poisson: Poisson,
        tolerance: float = 1e-8,
        max_iterations: int = 100,
        preconditioner: Callable[[Tensor], Tensor] | None = None,
        name: str = "multigrid",
    ) -> None:
        self.poisson, self.tolerance, self.max_iterations, self.name = poisson, tolerance, max_iterations, name
        self.precondition = preconditioner or Multigrid(poisson)
        self.direction, self.product, self.guess = (poisson.layout.zeros(poisson.dtype) for _ in range(3))

    def solve(self, rhs: Tensor, out: Tensor) -> SolveReport:
        """Overwrite the guess `out` (zeros for none) by phi, of zero mean over each part of the fluid.

        Raises
        ------
        PressureSolveFailure : tolerance not met in `max_iterations`, or the source is not finite.
        """
        return checked(self.name, solve_scaled(self.poisson, rhs, out, self._iterate, self.tolerance))

    def _iterate(self, r: Tensor, x: Tensor) -> tuple[str, int, float]:
        """Flexible conjugate gradients (Notay 2000): the Polak-Ribiere form forgives a cycle in single precision.

        `r` enters as the right-hand side and is overwritten by the residual, `x` by the solution.
        """
        layout, stencil, p, q, z = self.poisson.layout, self.poisson.stencil, self.direction, self.product, self.guess
        stencil.apply(layout.exchange(p.copy_(x)), q)
        residual, rz, alpha = self.poisson.layout.norm(r.sub_(q)), 1.0, 0.0
        for iteration in range(self.max_iterations + 1):
            if not residual < torch.inf:
                return "DIVERGED_NANORINF", iteration, residual
            if residual <= self.tolerance:
                return CONVERGED, iteration, residual
            if residual < NEAR:
                if residual <= rounding(self.poisson, x):
                    return ROUND_OFF, iteration, residual
                r = self.poisson.compatible(r)  # rounding has left a null vector, which cycles blow up
            if iteration == self.max_iterations:
                break
            z.copy_(self.precondition(r))
            rz_new, qz = layout.sum(torch.stack([torch.dot(r, z), torch.dot(q, z)])).tolist()
            if not rz_new > 0.0:
                return "DIVERGED_INDEFINITE_PC", iteration, residual
            p.mul_(-alpha * qz / rz).add_(z)
            rz = rz_new
            curvature = float(layout.sum(stencil.apply(layout.exchange(p), q)))
            if not curvature > 0.0:
                return "DIVERGED_INDEFINITE_MAT", iteration, residual
            alpha = rz / curvature
            x.add_(p, alpha=alpha)
            residual = self.poisson.layout.norm(r.sub_(q, alpha=alpha))
        return "DIVERGED_MAX_IT", self.max_iterations, residual
