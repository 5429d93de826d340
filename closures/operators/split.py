"""A subgrid stress in two parts, both learned: of the mean flow along walls, and what drains the fluctuations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from closures.algebraic.invariants import safe_ratio, safe_sqrt
from closures.algebraic.mixing_length import WallUnits, mixing_length
from closures.algebraic.wale import wale
from closures.operators.fno import Count
from closures.operators.pointwise import PointwiseLinear
from closures.operators.stress import CELL_REYNOLDS, PAIRS, WALL_UNITS, Cells, product, six, size, symmetric
from closures.operators.tensor_basis import invariants
from solver.discretisation.velocity import Gradient

AT_POINT, OF_DIRECTION, OF_MEAN = 8, 6, 6  # features
LARGEST_RATIO = math.log(30.0)  # of a viscosity to WALE's, as a logarithm
LARGEST_CORRECTION = math.log(4.0)  # of the viscosity of the mean to that of the formula
LARGEST_ROTATION = 5.0  # of the work-free stress to ``nu_w |g|``


@dataclass(frozen=True, eq=False)
class MeanFlow:
    """The mean flow along walls.

    Parameters
    ----------
    gradient : ``[i][j] = d_j <u_i>``, 1/time, broadcasts to (batch, 3, 3, nx, ny, nz).
    units : of the nearest wall, broadcast to (nx, ny, nz).
    turbulent : 0 in laminar flow, 1 in turbulence, see `closures.algebraic.mixing_length.turbulent_share`.
    """

    gradient: Tensor
    units: WallUnits
    turbulent: Tensor


class SplitStress(nn.Module):
    """``tau_ij = -2 nu_m <s_ij> - nu_w [2 r_ij s'_ij - q (s'_ik w'_kj - w'_ik s'_kj) / |g'|]``.

    The first part is the stress of the mean flow <u>, the rest acts on the fluctuations about it (Schumann 1975,
    J. Comput. Phys. 18, 376). ``nu_m`` is the two-part model's mixing length, whose three constants are weights here,
    times what a perceptron makes of y+, the filter widths in wall units and over the distance to the wall. ``nu_w`` is
    WALE's viscosity of the fluctuations, and vanishes with the filter width; each pair of directions (no sum) has a
    positive ratio ``r_ij`` to it: energy is drained and never fed, from streaks (xz) otherwise than from the shear of
    the layer (xy); q turns a stress that does no work. Both come from one perceptron that is asked for each pair with
    what its directions have of the flow and of the grid: directions are interchangeable. All inputs are local and
    without dimensions: no height over h, no Re_tau, no velocity. A new network is the two-part model with WALE.
    Without walls there is no mean part, and the fluctuations are the flow.

    Parameters
    ----------
    width, depth : of the perceptron for the fluctuations.
    mean_width : of that for the mean, two layers.
    c_w : of WALE.
    """

    kind: Literal["stress"] = "stress"
    reach = 0
    grid_free = True
    splits = True
    symmetries = frozenset({"galilean", "shift", "reflection", "rotation"})

    def __init__(
        self,
        *,
        width: Count = 12,
        depth: Annotated[int, Field(ge=1, le=16)] = 1,
        mean_width: Count = 16,
        c_w: Annotated[float, Field(ge=0, le=1)] = 0.325,
    ) -> None:
        super().__init__()
        self.c_w = c_w
        self.log_lengths = nn.Parameter(torch.tensor([0.58, 0.217]).log())
        self.exponent = nn.Parameter(torch.tensor(0.42))
        self.mean = _perceptron([OF_MEAN, mean_width, mean_width, 1])
        self.point = PointwiseLinear(AT_POINT, width)
        self.direction = PointwiseLinear(OF_DIRECTION, width, bias=False)
        self.ratios = nn.Sequential(nn.SiLU(), *_perceptron([width] * depth + [2]))

    def forward(self, gradient: Tensor, cells: Cells, mean: MeanFlow | None = None) -> Tensor:
        """The whole stress.

        Parameters
        ----------
        gradient : (batch, 3, 3, nx, ny, nz), ``[i][j] = d_j u_i`` of the fluctuations, 1/time.
        cells : with `widths`.
        mean : None without walls.

        Returns
        -------
        Tensor : (batch, 6, nx, ny, nz), xx yy zz xy xz yz, velocity^2.
        """
        tau = self.of_fluctuations(gradient, cells, mean)
        return tau if mean is None else tau + self.of_mean(mean)

    def of_mean(self, mean: MeanFlow) -> Tensor:
        """``-2 nu_m <s_ij>``, (batch, 6, ...) that broadcasts to the field."""
        a, b = self.log_lengths.exp()
        length = mixing_length(mean.units, a, b, self.exponent)
        answer = self.mean(_of_mean(mean.units))[:, 0]
        strain = six(0.5 * symmetric(mean.gradient))
        rate = safe_sqrt(2.0 * _squares(strain))
        nu = mean.turbulent * length * length * _bounded_exp(answer, LARGEST_CORRECTION) * rate
        return -2.0 * nu[:, None] * strain

    def of_fluctuations(self, gradient: Tensor, cells: Cells, mean: MeanFlow | None) -> Tensor:
        """The drain and the work-free stress, (batch, 6, nx, ny, nz)."""
        nu = wale(_components(gradient), cells.delta**2, self.c_w)
        at_point, of_direction = _features(gradient, cells, mean)
        first = self.direction(of_direction.flatten(0, 1)).unflatten(0, (-1, 3))
        hidden = self.point(at_point)[:, None] + torch.stack([first[:, i] + first[:, j] for i, j in PAIRS], dim=1)
        ratio, turn = self.ratios(hidden.flatten(0, 1)).unflatten(0, (-1, 6)).unbind(2)  # (batch, 6, nx, ny, nz)
        s, w = 0.5 * symmetric(gradient), 0.5 * (gradient - gradient.transpose(1, 2))
        q = LARGEST_ROTATION * torch.tanh(turn.mean(dim=1))
        rotated = six(symmetric(product(s, w))) * safe_ratio(q, size(gradient))[:, None]
        return nu[:, None] * (rotated - 2.0 * _bounded_exp(ratio, LARGEST_RATIO) * six(s))


def _perceptron(sizes: list[int]) -> nn.Sequential:
    """Linear maps with SiLU between them, the last one zero to begin with."""
    layers = [m for a, b in pairwise(sizes) for m in (PointwiseLinear(a, b), nn.SiLU())][:-1]
    for parameter in layers[-1].parameters():
        nn.init.zeros_(parameter)
    return nn.Sequential(*layers)


def _bounded_exp(x: Tensor, largest: float) -> Tensor:
    """``exp(x)`` where x is small, and never beyond ``exp(largest)``."""
    return torch.exp(largest * torch.tanh(x / largest))


def _components(gradient: Tensor) -> Gradient:
    """(batch, 3, 3, ...) as rows of components."""
    a, b, c = (tuple(gradient[:, i, j] for j in range(3)) for i in range(3))
    return a, b, c  # type: ignore[return-value]  # rows of three


def _squares(strain: Tensor) -> Tensor:
    """``s_ij s_ij`` of (batch, 6, ...)."""
    return (strain[:, :3] ** 2).sum(1) + 2.0 * (strain[:, 3:] ** 2).sum(1)


def _of_mean(units: WallUnits) -> Tensor:
    """y+, widths along and across in wall units, all three widths over the distance to the wall: logs, (1, 6, ...)."""
    viscous, y = units.per_viscous_length, units.distance
    plus = [torch.log1p(f * viscous) for f in (y, units.along, units.across)]
    shares = [torch.log(f / y) for f in (units.along, units.across, units.normal)]
    return torch.stack(torch.broadcast_tensors(*plus, *shares))[None]


def _features(gradient: Tensor, cells: Cells, mean: MeanFlow | None) -> tuple[Tensor, Tensor]:
    """What flow and grid are like at a point, (batch, 8, nx, ny, nz), and in each direction, (batch, 3, 6, nx, ny, nz).

    At a point: the invariants of the gradient in grid units, ``d_j u_i D_j / |D|`` with the filter widths D (Prakash,
    Jansen & Evans 2021, arXiv 2106.13410), over its norm; the Reynolds number of the cell, Re / (10 + Re);
    ``exp(-y+ / 25)``; the share of the fluctuations in the gradient. In direction k: ``D_k / |D|`` and
    ``D_k / (D_k + y)``; shares of that gradient along k and of the velocity along k, and the same of the mean flow's.
    """
    assert cells.widths is not None
    like = gradient[:, 0]  # of directions, and gradient[:, 0, 0] of points
    widths = torch.stack([w.expand_as(like[:, 0]) for w in cells.widths], dim=1)
    whole = safe_sqrt((widths * widths).sum(1))
    mapped = gradient * (widths / whole[:, None])[:, None]
    g = size(mapped)
    unit = safe_ratio(mapped, g[:, None, None].expand_as(mapped))
    s, w = 0.5 * symmetric(unit), 0.5 * (unit - unit.transpose(1, 2))
    stirred = whole**2 * g
    of_flow = [
        *invariants(s, product(s, s), product(w, w)).unbind(1),
        safe_ratio(stirred, stirred + CELL_REYNOLDS * cells.nu),
    ]
    none = torch.zeros_like(like)
    if mean is None:
        at_walls, of_mean = [none[:, 0], none[:, 0] + 1.0], [none] * 3
    else:
        units, fluctuating, steady = mean.units, size(gradient), size(mean.gradient)
        near = torch.exp(-units.distance * units.per_viscous_length / WALL_UNITS)
        squares = mean.gradient**2 * safe_ratio(torch.ones_like(steady), steady**2)[:, None, None]
        at_walls = [near, safe_ratio(fluctuating, fluctuating + steady)]
        of_mean = [widths / (widths + units.distance), squares.sum(1), squares.sum(2)]
    of_direction = [widths / whole[:, None], (unit * unit).sum(1), (unit * unit).sum(2), *of_mean]
    return (
        torch.stack([f.expand_as(like[:, 0]) for f in (*of_flow, *at_walls)], dim=1),
        torch.stack([f.expand_as(like) for f in of_direction], dim=2),
    )
