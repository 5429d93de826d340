"""The subgrid stress of a mean flow along walls: a mixing length that knows what the grid does not resolve."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from closures.algebraic.geometry import PerGrid, axis_widths, local_part, wall_distance, wall_shear, walls
from closures.algebraic.invariants import Six, contraction, safe_ratio, safe_sqrt
from closures.algebraic.mean_flow import Fluctuations, mean_strain
from solver.discretisation.calculus import Components, Operators
from solver.discretisation.fusion import fused
from solver.discretisation.gradient import VelocityGradient
from solver.discretisation.velocity import Velocity
from solver.grid.grid import Grid

KAPPA, A_PLUS = 0.41, 26.0
SPACING = 50.0  # width across the flow in wall units for which `a` stands
QUIET = 0.2  # energy of fluctuations in u_tau^2 with which a flow counts as turbulent; wall turbulence has 0.5 to 3


@dataclass(frozen=True)
class WallUnits:
    """What the nearest no-slip wall says of each cell; tensors broadcast to the local field.

    Parameters
    ----------
    distance : to that wall, a length.
    per_viscous_length : ``u_tau / nu`` of its mean friction, 1/length.
    along, across, normal : filter widths along that wall in the direction of its mean stress and across it, and normal
        to it, lengths.
    squared_u_tau : u_tau^2 averaged over the walls, a number.
    """

    distance: Tensor
    per_viscous_length: Tensor
    along: Tensor
    across: Tensor
    normal: Tensor
    squared_u_tau: Tensor


class NearWalls:
    """`WallUnits` of a velocity, in two halves: what takes all ranks, and what a kernel can be made of.

    Parameters
    ----------
    grid : with no-slip walls.
    nu : kinematic viscosity, positive.
    """

    def __init__(self, grid: Grid, nu: float) -> None:
        self.nu, self.axes = nu, [d for d, _, _ in walls(grid)]
        self.distance, self.nearest = PerGrid(wall_distance), PerGrid(nearest_wall)
        self.squared_widths = PerGrid(lambda operators: [w * w for w in axis_widths(operators)])

    def __call__(self, velocity: Velocity) -> WallUnits:
        """From the mean slopes at the walls (collective)."""
        return self.units(self.measured(velocity))

    def measured(self, velocity: Velocity) -> dict[str, Tensor]:
        """What `units` needs (collective): slopes (walls, 3) in 1/time, and geometry that broadcasts to the field."""
        operators = velocity.operators
        widths = dict(zip("xyz", self.squared_widths(operators), strict=True))
        nearest, distance = self.nearest(operators), self.distance(operators)
        return {"slopes": wall_shear(velocity), "distance": distance, "nearest": nearest} | widths

    def units(self, measured: dict[str, Tensor]) -> WallUnits:
        """Of what was measured; pure."""
        squares, nearest = measured["slopes"] * measured["slopes"], measured["nearest"]
        squared_u_tau = self.nu * safe_sqrt(squares.sum(1))
        widths = [measured[name] for name in "xyz"]
        at_walls = [_of_wall(d, widths, row) for d, row in zip(self.axes, squares, strict=True)]
        along, across, normal = (
            safe_sqrt(_at_nearest(nearest, list(of_walls))) for of_walls in zip(*at_walls, strict=True)
        )
        per_viscous_length = _at_nearest(nearest, list(safe_sqrt(squared_u_tau) / self.nu))
        return WallUnits(measured["distance"], per_viscous_length, along, across, normal, squared_u_tau.mean(0))


class MixingLength:
    """Stress of the mean flow: ``-2 l_m^2 |<S>| q <s_ij>``, see `mixing_length` and `turbulent_share`.

    Parameters
    ----------
    grid : with no-slip walls.
    nu : kinematic viscosity, positive.
    a, b, exponent : of the length.
    """

    def __init__(self, grid: Grid, nu: float, a: float, b: float, exponent: float) -> None:
        self.a, self.b, self.exponent = a, b, exponent
        self.near_walls = NearWalls(grid, nu)

    def __call__(self, velocity: Velocity, fluctuations: Fluctuations) -> Six:
        """At cell centres, velocity^2, broadcastable to the local field (collective)."""
        measured, energy = self.near_walls.measured(velocity), fluctuations.energy
        return self.stress(fluctuations.mean, velocity.strain, measured, energy)

    @fused
    def stress(self, mean: Components, strain: VelocityGradient, measured: dict[str, Tensor], energy: Tensor) -> Six:
        """Of a mean velocity with ghosts, where its components live."""
        s, units = mean_strain(strain, mean), self.near_walls.units(measured)
        length = mixing_length(units, self.a, self.b, self.exponent)
        rate = safe_sqrt(2.0 * contraction(s, s))
        twice = -2.0 * turbulent_share(energy, units.squared_u_tau) * length * length * rate
        xx, yy, zz, xy, xz, yz = (twice * part for part in s)
        return xx, yy, zz, xy, xz, yz


def mixing_length(units: WallUnits, a: float | Tensor, b: float | Tensor, exponent: float | Tensor) -> Tensor:
    """``l_m = [(a' l_vD)^-4 + (b D)^-4]^(-1/4)`` at cell centres, a length, with ``a' = a (D_plus / 50)^exponent``.

    ``l_vD = kappa y (1 - exp(-y_plus / 26))`` (van Driest 1956, J. Aeronaut. Sci. 23, 1007). y is the distance to the
    nearest no-slip wall, D the filter width along it and across the flow, both also in units of that wall's mean
    friction; which way the flow goes is the direction of the mean stress there.
    """
    y_plus = units.distance * units.per_viscous_length
    van_driest = -KAPPA * units.distance * torch.expm1(-y_plus / A_PLUS)
    spacing = units.across * units.per_viscous_length / SPACING
    moving = spacing > 0
    share = torch.where(moving, torch.where(moving, spacing, 1.0) ** exponent, 0.0)
    near, far = a * share * van_driest, b * units.across
    return near / (1.0 + (near / far) ** 4) ** 0.25


def turbulent_share(energy: Tensor, squared_u_tau: Tensor) -> Tensor:
    """``q = 1 - exp(-(k / (0.2 u_tau^2))^2)`` with k the energy of the resolved fluctuations.

    0 in laminar flow, 1 in turbulence.
    """
    intensity = safe_ratio(energy, QUIET * squared_u_tau)
    return -torch.expm1(-intensity * intensity)


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


def _of_wall(normal: int, widths: list[Tensor], stress: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Widths along the mean stress at a wall, across it, and normal to the wall; at rest the second axis is across.

    All are squares, of lengths and of the components of the stress.
    """
    first, second = (k for k in range(3) if k != normal)
    share = safe_ratio(stress[second], stress[first] + stress[second])
    along = (1.0 - share) * widths[first] + share * widths[second]
    across = (1.0 - share) * widths[second] + share * widths[first]
    return along, across, widths[normal]
