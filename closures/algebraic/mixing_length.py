"""The subgrid stress of a mean flow along walls: a mixing length that knows what the grid does not resolve."""

from __future__ import annotations

import torch
from torch import Tensor

from closures.algebraic.geometry import PerGrid, axis_widths, local_part, wall_distance, wall_shear, walls
from closures.algebraic.invariants import Six, contraction, safe_ratio, safe_sqrt
from closures.algebraic.mean_flow import Fluctuations
from solver.discretisation.calculus import Operators
from solver.discretisation.velocity import Velocity

KAPPA, A_PLUS = 0.41, 26.0
SPACING = 50.0  # width across the flow in wall units for which `a` stands
QUIET = 0.2  # energy of fluctuations in u_tau^2 with which a flow counts as turbulent; wall turbulence has 0.5 to 3


class MixingLength:
    """Eddy viscosity of the mean: ``l_m^2 |<S>| q``.

    ``l_m = [(a' l_vD)^-4 + (b D)^-4]^(-1/4)``, ``a' = a (D_plus / 50)^exponent``,
    ``l_vD = kappa y (1 - exp(-y_plus / 26))`` (van Driest 1956, J. Aeronaut. Sci. 23, 1007). y is the distance to the
    nearest no-slip wall, D the filter width along it and across the flow, both also in units of that wall's mean
    friction; which way the flow goes is the direction of the mean stress there.
    ``q = 1 - exp(-(k / (0.2 u_tau^2))^2)`` with k the energy of the resolved fluctuations: 0 in laminar flow, 1 in
    turbulence.

    Parameters
    ----------
    nu : kinematic viscosity, positive.
    a, b, exponent : of the length.
    """

    def __init__(self, nu: float, a: float, b: float, exponent: float) -> None:
        self.nu, self.a, self.b, self.exponent = nu, a, b, exponent
        self.distance, self.nearest = PerGrid(wall_distance), PerGrid(nearest_wall)

    def __call__(self, velocity: Velocity, fluctuations: Fluctuations, strain: Six) -> Tensor:
        """The viscosity at cell centres, length^2/time, broadcastable; `strain` is that of the mean."""
        length, squared_u_tau = self.length(velocity)
        intensity = safe_ratio(fluctuations.energy, QUIET * squared_u_tau)
        turbulent = -torch.expm1(-intensity * intensity)
        return turbulent * length * length * safe_sqrt(2.0 * contraction(strain, strain))

    def length(self, velocity: Velocity) -> tuple[Tensor, Tensor]:
        """``l_m`` at cell centres, and u_tau^2 averaged over the walls."""
        operators = velocity.operators
        slopes = wall_shear(velocity)
        squares = slopes * slopes
        squared_u_tau = self.nu * safe_sqrt(squares.sum(1))
        nearest, y = self.nearest(operators), self.distance(operators)
        across = safe_sqrt(_at_nearest(nearest, _squared_widths_across(operators, squares)))
        per_viscous_length = _at_nearest(nearest, list(safe_sqrt(squared_u_tau) / self.nu))
        van_driest = -KAPPA * y * torch.expm1(-y * per_viscous_length / A_PLUS)
        spacing = across * per_viscous_length / SPACING
        moving = spacing > 0
        share = torch.where(moving, torch.where(moving, spacing, 1.0) ** self.exponent, 0.0)
        near, far = self.a * share * van_driest, self.b * across
        return near / (1.0 + (near / far) ** 4) ** 0.25, squared_u_tau.mean()


def nearest_wall(operators: Operators) -> Tensor:
    """1 where a wall is the nearest one, 0 elsewhere: (walls, 1, local ny or 1, nz or 1), in the order of `walls`.

    Where two are equally near, each counts by its share.
    """
    distances = []
    for d, upper, _ in walls(operators.grid):
        axis = operators.grid.volume_axes[d]
        distance = axis.faces[-1] - axis.centres if upper else axis.centres - axis.faces[0]
        distances.append(torch.from_numpy(distance).reshape([-1 if k == d else 1 for k in range(3)]))
    every = torch.stack(torch.broadcast_tensors(*distances))
    mask = (every <= every.min(0).values * (1.0 + 1e-9)).double()
    return torch.stack([local_part(operators, m.numpy()) for m in mask / mask.sum(0)])


def _at_nearest(nearest: Tensor, of_walls: list[Tensor]) -> Tensor:
    """The value of the nearest wall."""
    total = nearest[0] * of_walls[0]
    for mask, value in zip(nearest[1:], of_walls[1:], strict=True):
        total = total + mask * value
    return total


def _squared_widths_across(operators: Operators, squares: Tensor) -> list[Tensor]:
    """For each wall the squared width along it and across its mean stress; across x where that is zero."""
    widths = [w * w for w in axis_widths(operators)]
    found = []
    for (d, _, _), row in zip(walls(operators.grid), squares, strict=True):
        first, second = (k for k in range(3) if k != d)
        along_second = safe_ratio(row[second], row[first] + row[second])
        found.append((1.0 - along_second) * widths[second] + along_second * widths[first])
    return found
