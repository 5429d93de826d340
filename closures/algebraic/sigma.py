"""The sigma model: an eddy viscosity from the singular values of the velocity gradient."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from closures.algebraic.base import PointwiseModel
from closures.algebraic.geometry import filter_width
from closures.algebraic.invariants import determinant, safe_ratio, safe_sqrt, squared_minors, squared_norm
from solver.discretisation.calculus import Operators
from solver.discretisation.velocity import Gradient
from solver.grid.grid import Grid


class Sigma(PointwiseModel):
    """Sigma (Nicoud et al. 2011): zero in two-dimensional, axisymmetric and isotropic strain, cubic at walls.

    ``nu_t = (c_sigma delta)^2 s3 (s1 - s2) (s2 - s3) / s1^2`` with ``s1 >= s2 >= s3 >= 0`` the singular values of
    the gradient (Nicoud, Baya Toda, Cabrit, Bose & Lee 2011, Phys. Fluids 23, 085106, eq. 4 and appendix).

    Parameters
    ----------
    c_sigma : the paper's value, from isotropic turbulence with random velocity gradients.
    """

    name = "sigma"

    def __init__(self, *, grid: Grid, nu: float, c_sigma: Annotated[float, Field(ge=0)] = 1.35) -> None:
        super().__init__()
        self.c_sigma = c_sigma

    @staticmethod
    def grid_scale(operators: Operators) -> Tensor:
        """The squared filter width."""
        return filter_width(operators) ** 2

    def eddy_viscosity(self, gradient: Gradient, scale: Tensor) -> Tensor:
        """Equation (4)."""
        s1, s2, s3 = singular_values(gradient)
        return self.c_sigma**2 * scale * s3 * safe_ratio(s1 - s2, s1) * safe_ratio(s2 - s3, s1)


def singular_values(gradient: Gradient) -> tuple[Tensor, Tensor, Tensor]:
    """Singular values of the gradient, largest first; exactly zero where its rank says so.

    The largest comes from the trigonometric solution of the characteristic cubic of ``g g^T`` (appendix of the
    paper). The other two follow from products of roots, because the appendix's differences lose half the digits of
    a small value. The arc cosine is kept off its ends, where its derivative is infinite and the root's is not.
    """
    first, second, det = squared_norm(gradient), squared_minors(gradient), determinant(gradient)
    b, c = safe_ratio(second, first * first), safe_ratio(det * det, first * first * first)
    radius = safe_sqrt(1.0 / 9.0 - b / 3.0)
    cosine = safe_ratio(1.0 / 27.0 - b / 6.0 + c / 2.0, radius * radius * radius)
    limit = 1.0 - 4.0 * torch.finfo(first.dtype).eps
    angle = torch.acos(cosine.clamp(-limit, limit)) / 3.0
    largest = 1.0 / 3.0 + 2.0 * radius * torch.cos(angle)  # of the scaled cubic x^3 - x^2 + b x - c

    product = c / largest
    total = (b - product) / largest
    middle = 0.5 * (total + safe_sqrt(total * total - 4.0 * product))
    norm = safe_sqrt(first)
    s1, s2 = norm * torch.sqrt(largest), norm * safe_sqrt(middle)
    return s1, torch.minimum(s1, s2), safe_ratio(det.abs(), s1 * s2)
