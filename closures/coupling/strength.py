"""How large an answer of a subgrid model is, and which way it moves energy."""

from __future__ import annotations

import torch
from torch import Tensor

from closures.algebraic.geometry import PerGrid, filter_width, local_part
from closures.algebraic.invariants import Six, contraction, safe_sqrt, squared_norm, symmetric
from solver.discretisation.calculus import Components, Operators
from solver.discretisation.fusion import fused
from solver.discretisation.velocity import Gradient, Velocity
from solver.flow.closure import EddyViscosity, SubgridStress, SubgridTerm


class StrengthCheck:
    """What the guard looks at, as kernels that fuse in long runs."""

    def __init__(self) -> None:
        self.width, self.share = PerGrid(filter_width), PerGrid(_shares)

    def __call__(self, term: SubgridTerm, velocity: Velocity) -> Tensor:
        """Sums over this rank: points not finite, squares of the answer and its scale, energy drained and its scale."""
        constants = self.width(velocity.operators), self.share(velocity.operators)
        if isinstance(term, EddyViscosity):
            return self.viscosity(term.nu_t, velocity.gradient, *constants)
        if isinstance(term, SubgridStress):
            return self.stress(term.tau, velocity.gradient, *constants)
        return self.force(term.force, velocity.centred, velocity.gradient, *constants)

    @fused
    def viscosity(self, nu_t: Tensor, g: Gradient, delta: Tensor, share: Tensor) -> Tensor:
        """Of ``tau_ij = -2 nu_t s_ij``."""
        s, squared = symmetric(g), squared_norm(g)
        strain = contraction(s, s)
        return _sums(4.0 * nu_t**2 * strain, (delta**2 * squared) ** 2, 2.0 * nu_t * strain, squared, delta, share)

    @fused
    def stress(self, tau: Six, g: Gradient, delta: Tensor, share: Tensor) -> Tensor:
        """Of a stress."""
        squared = squared_norm(g)
        drained = -contraction(tau, symmetric(g))
        return _sums(contraction(tau, tau), (delta**2 * squared) ** 2, drained, squared, delta, share)

    @fused
    def force(self, f: Components, u: Components, g: Gradient, delta: Tensor, share: Tensor) -> Tensor:
        """Of a force."""
        squared = squared_norm(g)
        square = f[0] * f[0] + f[1] * f[1] + f[2] * f[2]
        drained = -(f[0] * u[0] + f[1] * u[1] + f[2] * u[2])
        return _sums(square, (delta * squared) ** 2, drained, squared, delta, share)


def _sums(square: Tensor, scale: Tensor, drained: Tensor, squared: Tensor, delta: Tensor, share: Tensor) -> Tensor:
    energy_scale = delta**2 * squared * safe_sqrt(squared)
    strange = (~torch.isfinite(square + drained)).to(square.dtype).sum()
    return torch.stack([strange, *((f * share).sum() for f in (square, scale, drained, energy_scale))])


def stress_size(term: SubgridTerm, velocity: Velocity) -> float:
    """The norm of an answer that ``[closure.guard] size`` limits (collective)."""
    _, square, scale, _, _ = velocity.operators.decomposition.sum(StrengthCheck()(term, velocity)).tolist()
    return float((square / scale) ** 0.5) if scale > 0 else 0.0


def _shares(operators: Operators) -> Tensor:
    """Share of the volume that each point of this rank stands for."""
    return local_part(operators, operators.grid.cell_volume / operators.grid.volume)
