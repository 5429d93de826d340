"""Smagorinsky's eddy viscosity with van Driest's damping at walls."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from closures.algebraic.base import SYMMETRIES, unfused_gradient
from closures.algebraic.geometry import PerGrid, filter_width, mean_wall_shear, wall_distance, walls
from closures.algebraic.invariants import safe_sqrt, strain_norm
from solver.discretisation.calculus import Components, Operators
from solver.discretisation.fusion import fused
from solver.discretisation.gradient import Derivatives, VelocityGradient
from solver.discretisation.velocity import Velocity
from solver.errors import CaseError
from solver.flow.closure import EddyViscosity, State
from solver.grid.grid import Grid

C_S, C_S_AT_WALLS = 0.17, 0.1


class Smagorinsky:
    """Smagorinsky (1963) with van Driest damping (1956): robust, and the yardstick for everything else.

    ``nu_t = (c_s delta d)^2 |S|``, ``d = 1 - exp(-y_plus / 25)``, ``|S| = sqrt(2 s_ij s_ij)`` (Smagorinsky 1963,
    Mon. Weather Rev. 91, 99; van Driest 1956, J. Aeronaut. Sci. 23, 1007, eq. 11). ``y_plus = y u_tau / nu`` with y
    the distance to the nearest no-slip wall and ``u_tau`` from the present mean shear stress on all of them.

    Parameters
    ----------
    c_s : by default 0.1 where there are no-slip walls, the value for channels since Deardorff (1970, J. Fluid Mech. 41,
        453); else 0.17, Lilly's (1967, IBM Sci. Comput. Symp., 195) for a cutoff in the inertial range.
    damping : "van_driest" or "none"; by default van Driest where there are walls that the cells resolve.

    Raises
    ------
    CaseError : van Driest damping without a resolved wall, or without viscosity.
    """

    name = "smagorinsky"
    reach: int | Literal["global"] = 0
    symmetries = SYMMETRIES
    batches = True
    graph_cycle = 1

    def __init__(
        self,
        *,
        grid: Grid,
        nu: float,
        c_s: Annotated[float, Field(ge=0)] | None = None,
        damping: Literal["van_driest", "none"] | None = None,
    ) -> None:
        possible = bool(walls(grid)) and nu > 0 and not grid.has_modelled_walls
        if damping == "van_driest" and not possible:
            raise CaseError("[closure] damping = 'van_driest' needs a resolved wall and nu > 0: use damping = 'none'")
        self.c_s, self.nu = (C_S_AT_WALLS if walls(grid) else C_S) if c_s is None else c_s, nu
        self.damped = possible and damping != "none"
        self.delta, self.distance = PerGrid(filter_width), PerGrid(wall_distance)

    def init(self, operators: Operators) -> State:
        """No memory."""
        return {}

    def __call__(self, velocity: Velocity, t: float, state: State) -> tuple[EddyViscosity, State]:
        """``nu_t`` at cell centres, length^2/time, and the state unchanged."""
        length = self.c_s * self.delta(velocity.operators)
        if self.damped:
            length = length * self.damping(velocity)
        spectral = velocity.spectral_derivatives
        nu_t = self.eddy_viscosity(velocity.staggered, spectral, length * length, velocity.strain)
        return EddyViscosity(nu_t), state

    def damping(self, velocity: Velocity) -> Tensor:
        """Van Driest's factor, 0 at a wall and 1 far from it, broadcastable to the field."""
        u_tau = safe_sqrt(self.nu * mean_wall_shear(velocity))
        return -torch.expm1(self.distance(velocity.operators) * (-u_tau / (25.0 * self.nu)))

    @fused
    def eddy_viscosity(
        self, staggered: Components, spectral: Derivatives, squared_length: Tensor, strain: VelocityGradient
    ) -> Tensor:
        """Mixing length squared times the strain norm."""
        return squared_length * strain_norm(unfused_gradient(strain, staggered, spectral))
