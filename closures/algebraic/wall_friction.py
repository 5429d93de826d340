"""A law of the wall as a wall model: the stress along the velocity at the height, from a table of the law."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from pydantic import Field
from torch import Tensor

from closures.algebraic import wall_laws
from solver.case.table import Table
from solver.discretisation.fusion import fused
from solver.flow.closure import State
from solver.flow.wall_stress import Pair, WallSample

LEAST, MOST, SPACING = math.log(1e-8), math.log(1e12), 1.0 / 32.0  # of the table, in ln Re
CELLS = math.ceil((MOST - LEAST) / SPACING) - 1


class LogTable(Table):
    """Constants of the logarithmic law ``u+ = ln(y+) / kappa + B``."""

    kappa: float = Field(default=wall_laws.KAPPA, gt=0.1, lt=1.0, description="von Karman's constant")
    B: float = Field(default=wall_laws.B, gt=0, lt=20, description="intercept of the log law")

    def law(self) -> wall_laws.Law:
        """The log law, explicit."""
        return lambda re: wall_laws.explicit(re, self.kappa, self.B)


class SpaldingTable(LogTable):
    """Constants of the law of Spalding."""

    def law(self) -> wall_laws.Law:
        """One curve from the wall to the log layer."""
        return lambda re: wall_laws.spalding(re, self.kappa, self.B)


class ReichardtTable(LogTable):
    """Constants of the law of Reichardt."""

    def law(self) -> wall_laws.Law:
        """One curve from the wall to the log layer."""
        return lambda re: wall_laws.reichardt(re, self.kappa, self.B)


class EquilibriumTable(Table):
    """Constants of the damped eddy viscosity ``kappa y u_tau (1 - exp(-y+ / A+))^2``."""

    kappa: float = Field(default=wall_laws.KAPPA, gt=0.1, lt=1.0, description="von Karman's constant")
    a_plus: float = Field(default=17.0, gt=1.0, lt=100.0, description="thickness of the damped layer, wall units")

    def law(self) -> wall_laws.Law:
        """The boundary layer without acceleration, by quadrature."""
        return wall_laws.Equilibrium(self.kappa, self.a_plus)


LAWS: dict[str, type[LogTable] | type[EquilibriumTable]] = {
    "log_law": LogTable,
    "equilibrium_ode": EquilibriumTable,
    "reichardt": ReichardtTable,
    "spalding": SpaldingTable,
}


def tabulated(gain: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """The cubics of `gain`, a function of ln Re, in each cell of the table, (rows, `CELLS`, 4); `rows` is (rows, 1)."""
    places = (torch.arange(LEAST, MOST, SPACING, dtype=torch.float64) + 0.0 * rows).requires_grad_()
    with torch.enable_grad():
        values = gain(places)
        (slopes,) = torch.autograd.grad(values.sum(), places)
    f, g = values.detach(), SPACING * slopes
    f0, f1, g0, g1 = f[:, :-1], f[:, 1:], g[:, :-1], g[:, 1:]
    return torch.stack((f0, g0, 3.0 * (f1 - f0) - 2.0 * g0 - g1, g0 + g1 - 2.0 * (f1 - f0)), dim=-1)


class Friction:
    """The wall model of a law: ``tau = (nu U / y) (y+ / u+)``, the laminar stress times what turbulence makes of it.

    ln(y+ / u+) is tabulated over ``ln Re = ln(U y / nu)`` when the model is made, with its slopes, and cubic in
    between: within 1e-8 of the law, and every law costs the same. Gradients are those of the cubics.

    Parameters
    ----------
    name : of the law.
    law : u+ as a function of Re.
    """

    graph_cycle = 1

    def __init__(self, name: str, law: wall_laws.Law) -> None:
        self.name, self.law = name, law
        self.table, self.first = tabulated(self.gain, torch.zeros(1, 1, dtype=torch.float64))[0], torch.zeros(1).long()

    def gain(self, log_re: Tensor) -> Tensor:
        """``ln(y+ / u+)``."""
        return log_re - 2.0 * torch.log(self.law(torch.exp(log_re)))

    def init(self, sample: WallSample) -> State:
        """No memory; the table moves to where the flow is."""
        like = sample.velocity[0]
        self.table, self.first = self.table.to(like.device, like.dtype), self.first.to(like.device)
        return {}

    def __call__(self, sample: WallSample, t: float, state: State) -> tuple[Pair, State]:
        """Stresses along both components, velocity^2, and the state unchanged."""
        return self.stress(*sample.velocity, self.table, self.first, sample.height, sample.nu), state

    @fused
    def stress(self, u: Tensor, w: Tensor, table: Tensor, first: Tensor, height: float, nu: float) -> Pair:
        """From rows of `table` that begin at `first`, to be broadcast to u and w."""
        least = (math.exp(LEAST) * nu / height) ** 2
        log_re = 0.5 * torch.log((u * u + w * w).clamp_min(least)) + math.log(height / nu)
        place = ((log_re - LEAST) / SPACING).clamp(0.0, CELLS - 1e-3)
        index = place.detach().long()
        x = place - index
        row = (index + first).clamp(0, len(table) - 1)  # kernels are traced with any numbers
        a, b, c, d = table[row].unbind(-1)
        factor = (nu / height) * torch.exp(a + x * (b + x * (c + x * d)))
        return factor * u, factor * w
