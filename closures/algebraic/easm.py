"""An explicit algebraic subgrid stress: anisotropic, realisable, its energy from Germano's identity."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from closures.algebraic.base import SYMMETRIES, unfused_gradient
from closures.algebraic.cutoff import CutoffFilter, averages, width_ratio
from closures.algebraic.geometry import PerGrid, filter_width
from closures.algebraic.invariants import Six, contraction, safe_ratio, safe_sqrt, symmetric
from closures.algebraic.resolved import ResolvedScales
from solver.discretisation.calculus import Components, Operators
from solver.discretisation.fusion import fused
from solver.discretisation.gradient import Derivatives, VelocityGradient
from solver.discretisation.staggered import DIM
from solver.discretisation.velocity import Gradient, Velocity
from solver.errors import CaseError
from solver.flow.closure import State, SubgridStress
from solver.grid.grid import Grid

C_K, C_S, C_1, C_3 = 1.5, 0.1, 3.12, 0.91
TIME = C_3 * 1.5 * C_K**1.5 / (2.0 * C_S)  # t* |S| over sqrt(c)
RETURN = 2.25 * C_1 * math.sqrt(C_3) / (2.0 * C_S) ** 2.5  # N over c^(5/4)
PRODUCTS = 10


class Easm:
    """Explicit algebraic stress (Marstorp et al. 2009): anisotropic normal stresses, a trace by Germano's identity.

    ``tau_ij = K [2/3 d_ij + b1 t S_ij + b4 t^2 (S_ik O_kj - O_ik S_kj)]``, ``b4 = -33/20 / (N^2 + (t |O|)^2)``,
    ``b1 = N b4``, ``K = c delta^2 |S|^2`` (Marstorp, Brethouwer, Grundestam & Johansson 2009, J. Fluid Mech. 639, 403);
    S and O are the symmetric and the antisymmetric part of the gradient. The second tensor does no work. c comes from
    the trace of Germano's identity, ``<L_kk> / 2 = c <alpha^2 delta^2 |S^|^2 - hat(delta^2 |S|^2)>``, averaged over the
    Fourier directions with the test filter of the dynamic Smagorinsky model. Where an eigenvalue would be negative the
    anisotropy is reduced until it is zero. Constants: docs/decisions/0029.

    Raises
    ------
    CaseError : the grid has no Fourier direction.
    """

    name = "easm"
    symmetries = SYMMETRIES
    graph_cycle = 1
    reach: int | Literal["global"] = 0

    def __init__(self, *, grid: Grid, nu: float) -> None:
        self.filtered = tuple(d for d, axis in grid.fourier_axes.items() if axis.highest_mode > 0)
        if not self.filtered:
            raise CaseError(
                "[closure] 'easm' filters and averages along Fourier directions and this grid has none: "
                "use 'lagrangian_dynamic_smagorinsky' or 'wale'"
            )
        self.alpha = math.prod(width_ratio(grid.fourier_axes[d]) for d in self.filtered) ** (1 / len(self.filtered))
        self.resolved, self.delta = ResolvedScales(), PerGrid(filter_width)
        self.cutoff = PerGrid(lambda operators: CutoffFilter(operators, self.filtered))

    def init(self, operators: Operators) -> State:
        """No memory."""
        return {}

    def __call__(self, velocity: Velocity, t: float, state: State) -> tuple[SubgridStress, State]:
        """``tau_ij`` at cell centres, velocity^2, trace included, and the state unchanged."""
        operators = velocity.operators
        strain_rate, norm, u = self.resolved(velocity)
        fields = [*u, *strain_rate, norm]
        energy, squares = averages(self.cutoff(operators), operators, fields, PRODUCTS, self.products, self.means)
        squared_delta = self.delta(operators) ** 2
        c = safe_ratio(energy.clamp_min(0.0), squares) / squared_delta
        spectral = velocity.spectral_derivatives
        return SubgridStress(self.stress(velocity.staggered, spectral, c, squared_delta, velocity.strain)), state

    @fused
    def products(self, fields: list[Tensor]) -> Tensor:
        """The ten fields to filter, as one tensor (10, nx, planes, nz), y slowest in each."""
        u, v, w, *strain_rate, norm = fields
        every = [u, v, w, u * u + v * v + w * w, *strain_rate, norm * norm]
        return torch.stack([f.transpose(0, 1) for f in every]).transpose(1, 2)

    @fused
    def means(self, filtered: Tensor) -> list[Tensor]:
        """``<L_kk> / 2`` and ``<alpha^2 |S^|^2 - hat(|S|^2)>``."""
        u, v, w, square, xx, yy, xy, xz, yz, squared_norm = filtered.unbind(0)
        s = (xx, yy, -(xx + yy), xy, xz, yz)
        energy = 0.5 * (square - (u * u + v * v + w * w))
        squares = self.alpha**2 * 2.0 * contraction(s, s) - squared_norm
        along = [DIM[d] for d in self.filtered]
        return [f.mean(along, keepdim=True) for f in (energy, squares)]

    @fused
    def stress(
        self, staggered: Components, spectral: Derivatives, c: Tensor, squared_delta: Tensor, strain: VelocityGradient
    ) -> Six:
        """The six stresses of a coefficient."""
        return explicit_stress(unfused_gradient(strain, staggered, spectral), c, squared_delta)


def explicit_stress(g: Gradient, c: Tensor, squared_delta: Tensor) -> Six:
    """The formula, of plain tensors; without a division by ``|S|``, which may vanish."""
    s = symmetric(g)
    o = (0.5 * (g[0][1] - g[1][0]), 0.5 * (g[0][2] - g[2][0]), 0.5 * (g[1][2] - g[2][1]))
    squared_strain = 2.0 * contraction(s, s)
    squared_rotation = 4.0 * (o[0] * o[0] + o[1] * o[1] + o[2] * o[2])
    root = safe_sqrt(c)
    time, n = TIME * root, RETURN * c * safe_sqrt(root)
    common = n * n * squared_strain + time * time * squared_rotation
    linear = -1.65 * safe_ratio(n * time * safe_sqrt(squared_strain), common)
    workless = -1.65 * safe_ratio(time * time, common)
    a = [linear * x + workless * y for x, y in zip(s, commutator(s, o), strict=True)]
    share = realisable_share((a[0], a[1], a[2], a[3], a[4], a[5]))
    k = c * squared_delta * squared_strain
    xx, yy, zz = (k * (2.0 / 3.0 + share * f) for f in a[:3])
    xy, xz, yz = (k * share * f for f in a[3:])
    return xx, yy, zz, xy, xz, yz


def commutator(s: Six, o: tuple[Tensor, Tensor, Tensor]) -> Six:
    """``S O - O S`` with O = (xy, xz, yz): symmetric, without trace, and its product with S is zero."""
    xx, yy, zz, xy, xz, yz = s
    a, b, c = o
    return (
        -2.0 * (xy * a + xz * b),
        2.0 * (xy * a - yz * c),
        2.0 * (xz * b + yz * c),
        (xx - yy) * a - xz * c - yz * b,
        (xx - zz) * b + xy * c - yz * a,
        (yy - zz) * c + xy * b + xz * a,
    )


def realisable_share(a: Six) -> Tensor:
    """The largest factor up to 1 with which ``2/3 d_ij + factor a_ij`` has no negative eigenvalue; a has no trace."""
    squared = contraction(a, a) / 6.0
    p = safe_sqrt(squared)
    xx, yy, zz, xy, xz, yz = a
    determinant = xx * (yy * zz - yz * yz) - xy * (xy * zz - yz * xz) + xz * (xy * yz - yy * xz)
    limit = 1.0 - 4.0 * torch.finfo(p.dtype).eps
    angle = torch.acos(safe_ratio(0.5 * determinant, p * squared).clamp(-limit, limit)) / 3.0
    lowest = 2.0 * p * torch.cos(angle - math.pi / 3.0)  # minus the least eigenvalue
    return (2.0 / 3.0) / torch.clamp_min(lowest, 2.0 / 3.0)
