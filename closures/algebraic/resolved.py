"""What the dynamic models read of a velocity: strain rate, its norm and the velocity, at cell centres."""

from __future__ import annotations

from closures.algebraic.base import unfused_gradient
from closures.algebraic.germano import Resolved
from closures.algebraic.invariants import contraction, safe_sqrt, symmetric
from solver.discretisation.calculus import Components
from solver.discretisation.fusion import fused
from solver.discretisation.gradient import Derivatives, VelocityGradient
from solver.discretisation.velocity import Velocity


class ResolvedScales:
    """The *resolved* set of `germano`, in one kernel: the nine gradients never reach memory."""

    def __call__(self, velocity: Velocity) -> Resolved:
        """Five of s_ij, ``|S|`` and (u, v, w), each (nx, local ny, nz)."""
        spectral = velocity.spectral_derivatives
        return self.evaluate(velocity.staggered, spectral, velocity.strain)

    @fused
    def evaluate(self, staggered: Components, spectral: Derivatives, strain: VelocityGradient) -> Resolved:
        """The same of plain tensors."""
        s = symmetric(unfused_gradient(strain, staggered, spectral))
        u, v, w = (strain.to_centre(f, i) for i, f in enumerate(staggered))
        return (s[0], s[1], s[3], s[4], s[5]), safe_sqrt(2.0 * contraction(s, s)), (u, v, w)
