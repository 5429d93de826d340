"""The stress that filtering leaves behind: ``tau_ij = bar(u_i u_j) - u_bar_i u_bar_j``, at the coarse cell centres.

Both products are those of the discretisation: velocities at centres, de-aliased, truncated to the modes of the grid
they are formed on; so ``tau`` is a coefficient field of the coarse grid, a `SubgridStress` made of it closes the
filtered momentum equation at the order of the scheme, and it vanishes where the coarse grid resolves everything.
"""

from __future__ import annotations

from torch import Tensor

from closures.data.filters import GridFilter
from solver.discretisation.gradient import VelocityGradient
from solver.discretisation.velocity import Velocity
from solver.flow.closure import STRESS_INDEX

PAIRS = sorted(STRESS_INDEX, key=STRESS_INDEX.__getitem__)  # xx yy zz xy xz yz


def products(velocity: Velocity) -> list[Tensor]:
    """Coefficients of ``u_i u_j`` at cell centres, in the order xx yy zz xy xz yz, velocity^2."""
    u = velocity.centred
    return [velocity.operators.to_coefficients(u[i] * u[j]) for i, j in PAIRS]


class Commutator:
    """Pairs of filtered velocity and subgrid stress.

    Parameters
    ----------
    grid_filter : from the grid of the simulation to the coarse one.
    """

    def __init__(self, grid_filter: GridFilter) -> None:
        self.filter = grid_filter
        self.strain = VelocityGradient(grid_filter.coarse)

    def velocity(self, velocity: Velocity) -> Velocity:
        """The filtered velocity, whole on every rank (collective)."""
        return Velocity(self.strain, self.filter.velocity(velocity.coefficients))

    def stress(
        self, velocity: Velocity, filtered: Velocity | None = None, whole: list[Tensor] | None = None
    ) -> list[Tensor]:
        """Six coefficient fields of the coarse grid, whole on every rank (collective), velocity^2.

        Parameters
        ----------
        velocity : on the fine grid.
        filtered : what `velocity` makes of it, if that is at hand already.
        whole : its `products`, if these are: filters to several grids share them.
        """
        resolved = products(filtered if filtered is not None else self.velocity(velocity))
        filtered_products = self.filter.centred(products(velocity) if whole is None else whole)
        return [of_whole - own for of_whole, own in zip(filtered_products, resolved, strict=True)]
