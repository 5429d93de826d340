"""AMD: the least eddy viscosity that keeps the energy below the width of anisotropic cells from growing."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from closures.algebraic.base import PointwiseModel
from closures.algebraic.geometry import axis_widths
from closures.algebraic.invariants import contraction, safe_ratio, squared_norm, symmetric
from solver.discretisation.calculus import Operators
from solver.discretisation.velocity import Gradient
from solver.grid.grid import Grid

CELLS = 2.0  # widths of a cell that central differences on it amount to


class Amd(PointwiseModel):
    """AMD (Rozema et al. 2015): zero in pure shear and where the flow does not stretch, a width per direction.

    ``nu_t = max(0, -c sum_k D_k^2 (d_k u_i)(d_k u_j) s_ij) / (d_l u_m d_l u_m)`` (Rozema, Bae, Moin & Verstappen 2015,
    Phys. Fluids 27, 085107; Abkar, Bae & Moin 2016, Phys. Rev. Fluids 1, 041701). ``D_k`` is the width of a retained
    mode along Fourier directions and twice the cell along others, so that c = 1/12, the second moment of a box,
    amounts to 1/3 of the squared cells for second-order differences.

    Parameters
    ----------
    c : times the squared widths.
    """

    name = "amd"

    def __init__(self, *, grid: Grid, nu: float, c: Annotated[float, Field(ge=0)] = 1.0 / 12.0) -> None:
        super().__init__()
        self.c = c

    @staticmethod
    def grid_scale(operators: Operators) -> Tensor:
        """Effective widths (3, 1, ny, nz) along x, y, z."""
        widths = axis_widths(operators)
        effective = [CELLS * w if d in operators.volume_axes else w for d, w in enumerate(widths)]
        return torch.stack(torch.broadcast_tensors(*effective))

    def eddy_viscosity(self, gradient: Gradient, scale: Tensor) -> Tensor:
        """The quotient; the numerator is what a flow of this gradient produces below the widths."""
        a, b, c = ((row[0] * scale[0], row[1] * scale[1], row[2] * scale[2]) for row in gradient)
        clark = (_dot(a, a), _dot(b, b), _dot(c, c), _dot(a, b), _dot(a, c), _dot(b, c))
        produced = -contraction(clark, symmetric(gradient))
        return self.c * safe_ratio(produced.clamp_min(0.0), squared_norm(gradient))


def _dot(a: tuple[Tensor, Tensor, Tensor], b: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
