"""A law of the wall as a wall model: the stress along the velocity at the height, from a table of the law."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor

from closures.wall_models import laws
from solver.case.table import Table
from solver.discretisation.fusion import fused
from solver.flow.closure import State
from solver.flow.wall_stress import Pair, WallSample

LEAST, MOST, SPACING = math.log(1e-8), math.log(1e12), 1.0 / 32.0  # of the table, in ln Re


class LogTable(Table):
    """Constants of the logarithmic law ``u+ = ln(y+) / kappa + B``."""

    kappa: float = Field(default=laws.KAPPA, gt=0.1, lt=1.0, description="von Karman's constant")
    B: float = Field(default=laws.B, gt=0, lt=20, description="intercept of the log law")

    def law(self) -> laws.Law:
        """The log law, explicit."""
        return lambda re: laws.explicit(re, self.kappa, self.B)


class SpaldingTable(LogTable):
    """Constants of the law of Spalding."""

    def law(self) -> laws.Law:
        """One curve from the wall to the log layer."""
        return lambda re: laws.spalding(re, self.kappa, self.B)


class ReichardtTable(LogTable):
    """Constants of the law of Reichardt."""

    def law(self) -> laws.Law:
        """One curve from the wall to the log layer."""
        return lambda re: laws.reichardt(re, self.kappa, self.B)


class EquilibriumTable(Table):
    """Constants of the damped eddy viscosity ``kappa y u_tau (1 - exp(-y+ / A+))^2``."""

    kappa: float = Field(default=laws.KAPPA, gt=0.1, lt=1.0, description="von Karman's constant")
    a_plus: float = Field(default=17.0, gt=1.0, lt=100.0, description="thickness of the damped layer, wall units")

    def law(self) -> laws.Law:
        """The boundary layer without acceleration, by quadrature."""
        return laws.Equilibrium(self.kappa, self.a_plus)


LAWS: dict[str, type[LogTable] | type[EquilibriumTable]] = {
    "log_law": LogTable,
    "equilibrium_ode": EquilibriumTable,
    "reichardt": ReichardtTable,
    "spalding": SpaldingTable,
}


class Friction:
    """The wall model of a law: ``tau = (nu U / y) (y+ / u+)``, the laminar stress times what turbulence makes of it.

    ln(y+ / u+) is tabulated over ``ln Re = ln(U y / nu)`` when the model is made, with its slopes, and cubic in
    between: within 1e-8 of the law, and every law costs the same. Gradients are those of the cubics.

    Parameters
    ----------
    name : of the law.
    law : u+ as a function of Re.
    """

    def __init__(self, name: str, law: laws.Law) -> None:
        self.name = name
        places = torch.arange(LEAST, MOST, SPACING, dtype=torch.float64).requires_grad_()
        with torch.enable_grad():
            gain = places - 2.0 * torch.log(law(torch.exp(places)))
            (slopes,) = torch.autograd.grad(gain.sum(), places)
        f, g = gain.detach(), SPACING * slopes
        rise = f[1:] - f[:-1]
        cubic = (f[:-1], g[:-1], 3.0 * rise - 2.0 * g[:-1] - g[1:], g[:-1] + g[1:] - 2.0 * rise)
        self.table = torch.stack(cubic, dim=1)

    def init(self, sample: WallSample) -> State:
        """No memory; the table moves to where the flow is."""
        like = sample.velocity[0]
        self.table = self.table.to(like.device, like.dtype)
        return {}

    def __call__(self, sample: WallSample, t: float, state: State) -> tuple[Pair, State]:
        """Stresses along both components, velocity^2, and the state unchanged."""
        return self._stress(*sample.velocity, self.table, sample.height, sample.nu), state

    @fused
    def _stress(self, u: Tensor, w: Tensor, table: Tensor, height: float, nu: float) -> Pair:
        least = (math.exp(LEAST) * nu / height) ** 2
        log_re = 0.5 * torch.log((u * u + w * w).clamp_min(least)) + math.log(height / nu)
        place = ((log_re - LEAST) / SPACING).clamp(0.0, len(table) - 1e-3)
        index = place.detach().long()
        x = place - index
        a, b, c, d = table[index].unbind(-1)
        factor = (nu / height) * torch.exp(a + x * (b + x * (c + x * d)))
        return factor * u, factor * w
