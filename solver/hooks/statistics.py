"""Means over the homogeneous directions: velocity, stresses, and the budget of turbulent kinetic energy.

Moments are kept raw and centred later, so that any part of the run can be combined with any other.
"""

from __future__ import annotations

import torch
from torch import Tensor

from solver.closure import EddyViscosity, SubgridStress, SubgridTerm
from solver.fusion import fused
from solver.hooks.time_average import TimeAverage
from solver.momentum import STRESS_INDEX
from solver.operators import Components, Operators
from solver.simulation import Simulation
from solver.staggered import above, join
from solver.velocity import Gradient

NAMES = (
    *("u", "v", "w", "p"),
    *("uu", "vv", "ww", "uv", "uw", "vw"),
    *("tau_xx", "tau_yy", "tau_zz", "tau_xy", "tau_xz", "tau_yz", "nu_t", "eps_sgs"),
    *("dudx_dudx", "dvdx_dvdx", "dwdx_dwdx", "pv", "uuv", "vvv", "wwv", "tau_u", "flux_xy"),
)
INDEX = {name: i for i, name in enumerate(NAMES)}


class Moments:
    """Means over x and z (x alone in a duct) of the quantities `NAMES`, as a function of y (and z)."""

    def __init__(self, operators: Operators) -> None:
        self.operators = operators
        self.dims = tuple(d for d, axis in ((-3, 0), (-1, 2)) if operators.grid.axes[axis].is_fourier)

    def sample(self, simulation: Simulation, term: SubgridTerm | None) -> Tensor:
        """One sample, (len(NAMES), local ny, nz or 1)."""
        velocity = simulation.velocity
        p = simulation.pressure(term)
        gradient = velocity.gradient
        u, v, w = velocity.centred
        nu_t = term.nu_t if isinstance(term, EddyViscosity) else None
        tau = list(term.tau) if isinstance(term, SubgridStress) else None
        means = self._means((u, v, w), p, gradient, nu_t, tau)
        means.append(self._shear_flux(simulation, term, means[0]))
        return torch.stack([m.reshape(m.shape[-2:]) for m in means])

    def _shear_flux(self, simulation: Simulation, term: SubgridTerm | None, like: Tensor) -> Tensor:
        """Mean of the discrete flux of u through the upper y faces, subgrid part included."""
        if 1 not in self.operators.volume_axes:
            return torch.zeros_like(like)
        key = simulation.momentum.keys.index((0, 1))
        slabs = [fluxes[key] for fluxes in simulation.momentum.fluxes(simulation.velocity, term)]
        if self.dims:
            slabs = [f.mean(self.dims, keepdim=True) for f in slabs]
        return above(join(slabs, 1), 1)

    @fused
    def _means(
        self, velocity: Components, p: Tensor, g: Gradient, nu_t: Tensor | None, tau: list[Tensor] | None
    ) -> list[Tensor]:
        u, v, w = velocity
        zero = torch.zeros_like(u)
        strain = [[0.5 * (g[i][j] + g[j][i]) for j in range(3)] for i in range(3)]
        if tau is None:
            pairs = sorted(STRESS_INDEX, key=STRESS_INDEX.__getitem__)
            tau = [zero if nu_t is None else -2.0 * nu_t * strain[i][j] for i, j in pairs]
        full = [[tau[STRESS_INDEX[min(i, j), max(i, j)]] for j in range(3)] for i in range(3)]
        eps_sgs = -sum((full[i][j] * strain[i][j] for i in range(3) for j in range(3)), start=zero)
        squares = [g[i][0] ** 2 + g[i][1] ** 2 + g[i][2] ** 2 for i in range(3)]
        work = u * full[0][1] + v * full[1][1] + w * full[2][1]
        fields = [
            u,
            v,
            w,
            p,
            u * u,
            v * v,
            w * w,
            u * v,
            u * w,
            v * w,
            *tau,
            zero if nu_t is None else nu_t,
            eps_sgs,
        ]
        fields += [*squares, p * v, u * u * v, v * v * v, w * w * v, work]
        return [f.mean(self.dims, keepdim=True) if self.dims else f for f in fields]


class Statistics(TimeAverage):
    """Time means of `Moments`."""

    name = "statistics"

    def __init__(self, operators: Operators, start: float, width: float, every_steps: int) -> None:
        super().__init__(operators, start, width, every_steps)
        self.moments = Moments(operators)

    def sample(self, simulation: Simulation) -> Tensor:
        """The moments of the present flow."""
        return self.moments.sample(simulation, simulation.present_term())
