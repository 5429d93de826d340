"""The dynamic Smagorinsky model averaged along fluid paths: for flows without homogeneous directions."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from closures.algebraic.base import SYMMETRIES
from closures.algebraic.box import BoxFilter, lower_of, sides_of_test_filter, upper_of, with_ends
from closures.algebraic.geometry import PerGrid, filter_width
from closures.algebraic.germano import contractions, products
from closures.algebraic.invariants import safe_ratio
from closures.algebraic.resolved import ResolvedScales
from solver.discretisation.calculus import Operators
from solver.discretisation.fusion import fused
from solver.discretisation.velocity import Velocity
from solver.flow.closure import EddyViscosity, State
from solver.grid.axis import FiniteVolumeAxis
from solver.grid.grid import Grid

ALPHA = 2.0  # width of the test filter over that of the grid
FIRST = 0.16**2  # squared coefficient at the beginning
LEAST = 1e-8  # squared coefficient that counts as none: a smaller one would be remembered for ever


class LagrangianDynamicSmagorinsky:
    """Lagrangian dynamic Smagorinsky (Meneveau, Lund & Cabot 1996): averages Germano's identity along fluid paths.

    ``nu_t = c_s^2 delta^2 |S|`` with ``c_s^2 = I_LM / I_MM``, and ``I <- H(e X + (1 - e) I(x - u dt))`` for
    X = L_ij M_ij and M_ij M_ij, ``e = (dt / T) / (1 + dt / T)``, ``T = memory delta (I_LM I_MM)^(-1/8)`` (J. Fluid
    Mech. 319, 353, sections 2.3 and 3). The path is followed by linear interpolation, one direction after the other,
    over one cell at most. The test filter is the positive one of the local dynamic model, see `box`; where no
    direction is even it acts along all.

    Parameters
    ----------
    memory : of the time scale T.
    c_s_max : bound of the coefficient.
    every : calls from one average to the next; 3 is once a Runge-Kutta step.
    """

    name = "lagrangian_dynamic_smagorinsky"
    symmetries = SYMMETRIES
    slabs = ("lm", "mm")
    reach: int | Literal["global"] = 1

    def __init__(
        self,
        *,
        grid: Grid,
        nu: float,
        memory: Annotated[float, Field(gt=0)] = 1.5,
        c_s_max: Annotated[float, Field(gt=0)] = 0.3,
        every: Annotated[int, Field(ge=1)] = 3,
    ) -> None:
        self.memory, self.c_s_max, self.every = memory, c_s_max, every
        self.box, self.resolved = BoxFilter(sides_of_test_filter(grid)), ResolvedScales()
        self.delta, self.paths = PerGrid(filter_width), PerGrid(path_gaps)

    def init(self, operators: Operators) -> State:
        """``lm`` and ``mm``, the two averages on this rank's planes; the time they are of, and the calls so far."""
        empty = operators.tensor(0.0).repeat(operators.local_shape)
        calls = torch.zeros((), dtype=torch.int64)
        return {"lm": empty, "mm": empty.clone(), "t": torch.tensor(-math.inf, dtype=torch.float64), "calls": calls}

    def __call__(self, velocity: Velocity, t: float, state: State) -> tuple[EddyViscosity, State]:
        """``nu_t`` at cell centres, length^2/time, and the state with both averages as they are at `t`."""
        resolved, delta = self.resolved(velocity), self.delta(velocity.operators)
        lm, mm, calls = state["lm"], state["mm"], int(state["calls"])
        since = state["t"]
        if calls % self.every == 0:
            numerator, denominator = contractions(self.box(products(resolved), velocity.operators), ALPHA)
            if bool(torch.isinf(since)):
                lm, mm = self.begun(denominator, delta)
            else:
                dt = velocity.operators.tensor(t - float(since))
                lm, mm = self.carried([lm, mm], velocity, dt)
                lm, mm = self.averaged(lm, mm, numerator, denominator, delta, dt)
            since = torch.tensor(t, dtype=torch.float64)
        nu_t = self.eddy_viscosity(lm, mm, resolved[1], delta)
        return EddyViscosity(nu_t), {"lm": lm, "mm": mm, "t": since, "calls": torch.tensor(calls + 1)}

    @fused
    def begun(self, denominator: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
        """The averages at the beginning: a coefficient of 0.16 everywhere."""
        mm = 4.0 * delta**4 * denominator
        return FIRST * mm, mm

    @fused
    def averaged(
        self, lm: Tensor, mm: Tensor, numerator: Tensor, denominator: Tensor, delta: Tensor, dt: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The averages with the present products in them; the paper's M_ij is 2 delta^2 times that of `germano`."""
        product = lm * mm
        positive = product > 0
        rate = torch.where(positive, torch.where(positive, product, 1.0) ** 0.125, 0.0) / (self.memory * delta)
        share = dt * rate / (1.0 + dt * rate)
        mm = mm + share * (4.0 * delta**4 * denominator - mm)
        lm = lm + share * (-2.0 * delta**2 * numerator - lm)
        return torch.maximum(lm, LEAST * mm), mm

    @fused
    def eddy_viscosity(self, lm: Tensor, mm: Tensor, norm: Tensor, delta: Tensor) -> Tensor:
        """``c_s^2 delta^2 |S|``."""
        return safe_ratio(lm, mm).clamp(0.0, self.c_s_max**2) * delta**2 * norm

    def carried(self, fields: list[Tensor], velocity: Velocity, dt: Tensor) -> list[Tensor]:
        """Fields as they arrive with the flow after `dt` (collective)."""
        for d, (lower, upper) in self.paths(velocity.operators).items():
            wide = with_ends(fields, velocity.operators, d)
            path = velocity.centred[d] * dt
            fields = [
                self.arriving(f, lower_of(w, d), upper_of(w, d), path, lower, upper)
                for f, w in zip(fields, wide, strict=True)
            ]
        return fields

    @fused
    def arriving(self, f: Tensor, below: Tensor, above: Tensor, path: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """``f`` at the other end of a path, between a point and its neighbour upstream."""
        from_below, from_above = (path / lower).clamp(0.0, 1.0), (-path / upper).clamp(0.0, 1.0)
        return f + from_below * (below - f) + from_above * (above - f)


def path_gaps(operators: Operators) -> dict[int, tuple[Tensor, Tensor]]:
    """Distances to the lower and the upper neighbour along every direction that has some, broadcastable."""
    gaps = {}
    for d, axis in enumerate(operators.grid.axes):
        if axis.points == 1:
            continue
        both = (axis.spacing[:-1], axis.spacing[1:]) if isinstance(axis, FiniteVolumeAxis) else (axis.width,) * 2
        lower, upper = (operators.along(operators.local(gap, d), d) for gap in both)
        gaps[d] = lower, upper
    return gaps
