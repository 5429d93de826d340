"""What local models of the subgrid stress share: their inputs, dimensionless features, and a limit on backscatter."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from closures.algebraic.invariants import safe_ratio, safe_sqrt

PAIRS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))  # order of six: xx yy zz xy xz yz
CELL_REYNOLDS, WALL_UNITS = 10.0, 25.0
COEFFICIENT = 0.02  # size of stresses over delta^2 |g|^2: networks answer in this unit, so theirs are of order one


@dataclass(frozen=True, eq=False)
class Cells:
    """What a stress model knows besides the velocity gradient; tensors broadcast to (batch, nx, ny, nz).

    Parameters
    ----------
    delta : filter width, a length.
    nu : viscosity, length^2/time.
    wall_distance : distance to the nearest wall at rest, infinite or None where there is none.
    periodic : directions that close on themselves.
    widths : filter widths along x, y and z, lengths.
    halos : y already carries ``reach`` more planes at both ends, the neighbour's or, at a wall, copies of the nearest.
    """

    delta: Tensor
    nu: Tensor | float
    wall_distance: Tensor | None = None
    periodic: tuple[bool, bool, bool] = (True, False, True)
    widths: tuple[Tensor, Tensor, Tensor] | None = None
    halos: bool = False


def symmetric(a: Tensor) -> Tensor:
    """``a + a^T`` of (batch, 3, 3, ...)."""
    return a + a.transpose(1, 2)


def product(a: Tensor, b: Tensor) -> Tensor:
    """``a_ik b_kj`` at each point of (batch, 3, 3, ...), written out: batched 3 x 3 products are slow."""
    return sum((a[:, :, k, None] * b[:, k, None] for k in range(1, 3)), a[:, :, 0, None] * b[:, 0, None])


def trace(a: Tensor) -> Tensor:
    """``a_ii`` of (batch, 3, 3, ...), (batch, ...)."""
    return a[:, 0, 0] + a[:, 1, 1] + a[:, 2, 2]


def deviator(a: Tensor) -> Tensor:
    """``a_ij - delta_ij a_kk / 3``."""
    identity = torch.eye(3, dtype=a.dtype, device=a.device).reshape(1, 3, 3, *[1] * (a.ndim - 3))
    return a - identity * (trace(a) / 3.0)[:, None, None]


def six(a: Tensor) -> Tensor:
    """The components xx yy zz xy xz yz of a symmetric (batch, 3, 3, ...), (batch, 6, ...)."""
    return torch.stack([a[:, i, j] for i, j in PAIRS], dim=1)


def matrix(tau: Tensor) -> Tensor:
    """The symmetric (batch, 3, 3, ...) with components (batch, 6, ...)."""
    xx, yy, zz, xy, xz, yz = tau.unbind(1)
    return torch.stack([torch.stack(row, 1) for row in ((xx, xy, xz), (xy, yy, yz), (xz, yz, zz))], 1)


def size(gradient: Tensor) -> Tensor:
    """``sqrt(g_ij g_ij)``, 1/time, (batch, ...)."""
    return safe_sqrt((gradient * gradient).sum(dim=(1, 2)))


def scalars(gradient: Tensor, cells: Cells) -> Tensor:
    """Two dimensionless scalars between 0 and 1, (batch, 2, ...).

    ``Re / (10 + Re)`` with the Reynolds number of the cell ``delta^2 |g| / nu``; and ``exp(-y* / 25)`` with
    ``y* = d sqrt(|g| / nu)``, which is y+ at a wall, as in van Driest's damping.
    """
    g = size(gradient)
    nu = cells.nu.to(g) if isinstance(cells.nu, Tensor) else torch.full((), cells.nu, dtype=g.dtype, device=g.device)
    stirred = cells.delta**2 * g
    reynolds = safe_ratio(stirred, stirred + CELL_REYNOLDS * nu)
    if cells.wall_distance is None:
        return torch.stack([reynolds, torch.zeros_like(reynolds)], dim=1)
    near = torch.isfinite(cells.wall_distance)
    distance = torch.where(near, cells.wall_distance, 0.0)
    wall = torch.where(near, torch.exp(-distance * safe_sqrt(safe_ratio(g, nu.expand_as(g))) / WALL_UNITS), 0.0)
    return torch.stack([reynolds, wall.expand_as(reynolds)], dim=1)


def scale(gradient: Tensor, cells: Cells, wall: Tensor) -> Tensor:
    """What networks answer in units of: ``0.02 delta^2 |g|^2 (1 - wall)^2``, (batch, ...), velocity^2.

    `wall` is the second of `scalars`: the gradient is greatest at a wall, where there is no subgrid stress; the factor
    is van Driest's.
    """
    g = size(gradient)
    return COEFFICIENT * cells.delta**2 * g * g * (1.0 - wall) ** 2


def dissipation(tau: Tensor, gradient: Tensor) -> Tensor:
    """``eps_sgs = -tau_ij s_ij`` of (batch, 6, ...) stresses: energy drained from the resolved flow if positive."""
    return -(matrix(tau) * gradient).sum(dim=(1, 2))


def limited(tau: Tensor, gradient: Tensor, cells: Cells, backscatter: float | None) -> Tensor:
    """`tau` changed along the strain, as little as possible, so that ``eps_sgs >= -backscatter delta^2 |g|^3``.

    None leaves it alone, 0 forbids any transfer from the subgrid scales to the resolved ones.
    """
    if backscatter is None:
        return tau
    strain = 0.5 * symmetric(gradient)
    least = -backscatter * cells.delta**2 * size(gradient) ** 3
    missing = (least - dissipation(tau, gradient)).clamp(min=0.0)
    return tau - six(strain) * safe_ratio(missing, (strain * strain).sum(dim=(1, 2)))[:, None]
