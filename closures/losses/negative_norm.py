"""The norm dual to the first Sobolev norm: what a residual is measured in when it bounds an error.

Spectral-Refiner (Cao, Brarda, Li & Xia 2025, ICLR, arXiv 2405.17211) measures the residual of a periodic flow in H^-1
by Parseval's identity; its released weight is the root of the right one, which makes it H^-1/2. Here the symbol is
``1 / (alpha + k^2)``, and along finite-volume axes the eigenvectors of the solver's own Laplacian take the place of
Fourier modes, with the ends that each component has there.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from solver.discretisation.calculus import Components, Operators
from solver.discretisation.staggered import y_slowest
from solver.errors import CaseError
from solver.grid.axis import Array, FiniteVolumeAxis, NoSlip
from solver.pressure.direct import apply_matrix


class NegativeNorm:
    """``|r|^2 = <r, (alpha - lap)^-1 r>``, the volume mean, with the discrete vector Laplacian of the solver.

    It is the largest ``<r, v> / |v|_1`` over velocities v that vanish where the ends hold them, with
    ``|v|_1^2 = alpha <v, v> + <grad v, grad v>``.

    Parameters
    ----------
    operators : on one rank, without open ends.
    alpha : 1/length^2, larger than zero; scales longer than ``alpha^-1/2`` count as in L2.

    Raises
    ------
    CaseError : `alpha` is not positive.
    """

    def __init__(self, operators: Operators, alpha: float = 1.0) -> None:
        if not alpha > 0:
            raise CaseError(f"[equations] alpha = {alpha:g}: should be greater than 0")
        self.operators = operators
        self.modes = [
            {axis: self._line(line, i == axis) for axis, line in operators.grid.volume_axes.items()} for i in range(3)
        ]
        self.inverse = [y_slowest(1.0 / (alpha + self._symbol(i))) for i in range(3)]

    def _line(self, line: FiniteVolumeAxis, staggered: bool) -> tuple[Tensor, Tensor, Array]:
        values, forward, backward = line_modes(line, staggered)
        return self.operators.tensor(forward), self.operators.tensor(backward), values

    def _symbol(self, component: int) -> Tensor:
        symbol = self.operators.squared_wavenumber
        for axis, (_, _, values) in self.modes[component].items():
            symbol = symbol + self.operators.along(values, axis)
        return symbol

    def solve(self, field: Tensor, component: int) -> Tensor:
        """``(alpha - lap)^-1`` of a coefficient field that lives where a velocity component does."""
        f, modes = field, self.modes[component]
        for axis, (forward, _, _) in modes.items():
            f = apply_matrix(forward, f, axis)
        f = f * self.inverse[component]
        for axis, (_, backward, _) in modes.items():
            f = apply_matrix(backward, f, axis)
        return f

    def square(self, field: Components) -> Tensor:
        """The squared norm of a vector field, in its units times a length, squared."""
        parts = [self.operators.inner_product(f, self.solve(f, i), i) for i, f in enumerate(field)]
        return torch.stack(parts).sum()


def line_modes(line: FiniteVolumeAxis, staggered: bool) -> tuple[Array, Array, Array]:
    """Eigenvalues (positive) of ``-d^2/dx^2`` along one axis, and the matrices to and from its eigenvectors.

    Staggered values are zero on walls, whatever they are given as.
    """
    stiffness, size = _staggered(line) if staggered else _centred(line)
    n = line.points
    free = n - 1 if staggered and not line.periodic else n
    root = np.sqrt(size[:free])
    values, q = np.linalg.eigh(stiffness[:free, :free] / np.outer(root, root))
    spectrum, forward, backward = np.zeros(n), np.zeros((n, n)), np.zeros((n, n))
    spectrum[:free] = np.maximum(values, 0.0)
    forward[:free, :free], backward[:free, :free] = q.T * root, q / root[:, None]
    return spectrum, forward, backward


def _staggered(line: FiniteVolumeAxis) -> tuple[Array, Array]:
    """Stiffness and sizes of values on upper faces: slopes live in the cells."""
    slope = np.eye(line.points) - np.eye(line.points, k=-1)
    if line.periodic:
        slope[0, -1] -= 1.0
    return slope.T @ (slope / line.width[:, None]), line.spacing[1:]


def _centred(line: FiniteVolumeAxis) -> tuple[Array, Array]:
    """Stiffness and sizes of values in cells: slopes live on faces 0 .. n, the ghost of a no-slip wall is mirrored."""
    n = line.points
    slope, weight = np.eye(n + 1, n) - np.eye(n + 1, n, k=-1), 1.0 / line.spacing
    if line.periodic:
        slope[0, -1] -= 1.0
        weight[-1] = 0.0  # the face that is also the first
    else:
        weight[0] *= 2.0 if isinstance(line.lower, NoSlip) else 0.0
        weight[-1] *= 2.0 if isinstance(line.upper, NoSlip) else 0.0
    return slope.T @ (weight[:, None] * slope), line.width
