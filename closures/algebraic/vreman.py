"""Vreman's model: as cheap as Smagorinsky, and zero for the flows that need no eddy viscosity."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from closures.algebraic.base import PointwiseModel
from closures.algebraic.geometry import axis_widths
from closures.algebraic.invariants import safe_ratio, safe_sqrt, squared_minors, squared_norm
from solver.discretisation.calculus import Operators
from solver.discretisation.velocity import Gradient
from solver.grid.grid import Grid


class Vreman(PointwiseModel):
    """Vreman (2004): zero in pure shear and in every flow whose scaled gradient has rank one; width per direction.

    ``nu_t = c sqrt(B / (g_ij g_ij))`` with B the second invariant of ``beta_ij = delta_m^2 g_im g_jm``
    (Vreman 2004, Phys. Fluids 16, 3670, eq. 5-8), here the sum of the squared minors of ``delta_m g_im``.

    Parameters
    ----------
    c : 2.5 c_s^2 of the Smagorinsky constant; 0.07 stands for c_s = 0.17.
    """

    name = "vreman"

    def __init__(self, *, grid: Grid, nu: float, c: Annotated[float, Field(ge=0)] = 0.07) -> None:
        super().__init__()
        self.c = c

    @staticmethod
    def grid_scale(operators: Operators) -> Tensor:
        """Filter widths (3, 1, ny, nz) along x, y, z."""
        return torch.stack(torch.broadcast_tensors(*axis_widths(operators)))

    def eddy_viscosity(self, gradient: Gradient, scale: Tensor) -> Tensor:
        """Equation (5)."""
        a, b, c = ((row[0] * scale[0], row[1] * scale[1], row[2] * scale[2]) for row in gradient)
        return self.c * safe_sqrt(safe_ratio(squared_minors((a, b, c)), squared_norm(gradient)))
