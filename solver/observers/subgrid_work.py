"""What a subgrid term does to the resolved flow, evaluated as the momentum equation does it: work and shear flux.

Shear stresses live on the edges of cells. The work on an edge is shared evenly by the cells around it, so that the sum
over all cells is the energy that the term takes out of the discrete flow, to round-off.
"""

from __future__ import annotations

import torch
from torch import Tensor

from solver.discretisation.calculus import Components, Operators
from solver.discretisation.fusion import fused
from solver.discretisation.gradient import Derivatives, VelocityGradient
from solver.discretisation.staggered import above, below, mean
from solver.discretisation.velocity import Velocity
from solver.flow.closure import STRESS_INDEX, SubgridForce, SubgridTerm
from solver.flow.momentum import padded_term

SHEARS = ((0, 1), (0, 2), (1, 2))


class SubgridWork:
    """Evaluates terms on one grid."""

    def __init__(self, operators: Operators) -> None:
        self.operators, self.strain = operators, VelocityGradient(operators)

    def __call__(self, velocity: Velocity, term: SubgridTerm | None) -> tuple[Tensor, Tensor]:
        """The work at centres, and tau_xy at the upper y faces (zero where y is a Fourier axis), as (nx, local ny, nz).

        The work is the energy drained from the resolved flow per time and mass: ``-tau_ij s_ij`` of a stress or an
        eddy viscosity, ``-f_i u_i`` of a force, whose drain and transport cannot be told apart.
        """
        if isinstance(term, SubgridForce):
            force = [self.operators.pad_scalar(f) for f in term.force]
            return self._work_of_force(force, velocity.staggered), torch.zeros_like(term.force[0])
        if term is None:
            zero = torch.zeros_like(velocity.centred[0])
            return zero, zero
        spectral, padded = velocity.spectral_derivatives, padded_term(self.operators, term)
        assert padded is not None
        return self._work_of_stress(velocity.staggered, spectral, padded)

    @fused
    def _work_of_stress(
        self, velocity: Components, spectral: Derivatives, given: Tensor | list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Of a padded eddy viscosity, or of six padded stresses."""
        strain, volume_axes = self.strain, self.strain.volume_axes
        flux = work = torch.zeros_like(self.operators.inner(given if isinstance(given, Tensor) else given[0]))
        for i in range(3):
            s_ii = strain.normal(velocity, spectral, i, along=-1)
            tau = (
                -2.0 * self.operators.inner(given) * s_ii
                if isinstance(given, Tensor)
                else self.operators.inner(given[i])
            )
            work = work - tau * s_ii
        for i, j in SHEARS:
            twice_s = strain.twice_shear(velocity, spectral, i, j)
            at_edges = strain.to_edges(given if isinstance(given, Tensor) else given[STRESS_INDEX[i, j]], i, j)
            tau = -at_edges * twice_s if isinstance(given, Tensor) else at_edges
            drained = tau * twice_s
            for axis in (i, j):
                drained = mean(drained, axis) if axis in volume_axes else drained
            work = work - drained
            if (i, j) == (0, 1) and 1 in volume_axes:
                flux = above(tau, 1)
        return work, flux

    @fused
    def _work_of_force(self, force: list[Tensor], velocity: Components) -> Tensor:
        """``-f_i u_i`` of a padded force, each component where it lives, then at centres."""
        op = self.operators
        work = torch.zeros_like(op.inner(force[0]))
        for i, (f, u) in enumerate(zip(force, velocity, strict=True)):
            f, u = op.inner(f, i), op.inner(u, i)
            work = work - (mean(mean(f, i) * below(u, i), i) if i in op.volume_axes else f * u)
        return work
