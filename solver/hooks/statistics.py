"""Means over the homogeneous directions: velocity, stresses, and the budget of turbulent kinetic energy.

Moments are kept raw and centred later, so that any part of the run can be combined with any other.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from solver.closure import EddyViscosity, SubgridStress, SubgridTerm
from solver.fusion import fused
from solver.hooks.batch_means import Array, BatchMeans, gather_means, local_state
from solver.momentum import STRESS_INDEX
from solver.operators import Components, Operators, above
from solver.simulation import Simulation
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
        p = self.operators.to_physical(simulation.pressure_coefficients)
        gradient = velocity.gradient
        u, v, w = velocity.centred
        if simulation.momentum.trace == 2:
            p = p - w * w
        nu_t = term.nu_t if isinstance(term, EddyViscosity) else None
        tau = list(term.tau) if isinstance(term, SubgridStress) else None
        means = self._means((u, v, w), p, gradient, nu_t, tau)
        means.append(self._shear_flux(simulation, term, means[0]))
        return torch.stack([m.reshape(m.shape[-2:]) for m in means])

    def _shear_flux(self, simulation: Simulation, term: SubgridTerm | None, like: Tensor) -> Tensor:
        """Mean of the discrete flux of u through the upper y faces, subgrid part included."""
        if 1 not in self.operators.volume_axes:
            return torch.zeros_like(like)
        flux = simulation.momentum.fluxes(simulation.velocity, term)[simulation.momentum.keys.index((0, 1))]
        flux = above(flux, 1)
        return flux.mean(self.dims, keepdim=True) if self.dims else flux

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


class Statistics:
    """Accumulates `Moments` every `every_steps` steps from `start` on."""

    name = "statistics"

    def __init__(self, operators: Operators, start: float, width: float, every_steps: int) -> None:
        self.operators, self.every_steps = operators, every_steps
        self.moments = Moments(operators)
        self.means = BatchMeans(start, width)
        self._sampled_at: float | None = None

    def __call__(self, simulation: Simulation) -> None:
        """Sample, if it is time."""
        if simulation.step_count % self.every_steps or simulation.t < self.means.start:
            return
        with simulation.timers("statistics"):
            weight = (
                simulation.t - self._sampled_at
                if self._sampled_at is not None
                else simulation.dt * self.every_steps
            )
            self._sampled_at = simulation.t
            sample = self.moments.sample(simulation, simulation.present_term())
            self.means.add(simulation.t, weight, sample.cpu().double().numpy())

    def gathered(self) -> BatchMeans | None:
        """The accumulator over the whole grid on the root, None elsewhere."""
        return gather_means(self.operators, self.means)

    def state(self) -> dict[str, Array]:
        """Global arrays on the root (collective)."""
        whole = self.gathered()
        last = np.array([np.nan if self._sampled_at is None else self._sampled_at])
        return {} if whole is None else whole.state() | {"sampled_at": last}

    def restore(self, state: dict[str, Array]) -> None:
        """Continue from the global arrays `state`."""
        self.means.restore(local_state(self.operators, state))
        last = float(state["sampled_at"][0])
        self._sampled_at = None if np.isnan(last) else last
