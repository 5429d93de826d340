"""Means over the homogeneous directions: velocity, stresses, and the budget of turbulent kinetic energy.

Moments are kept raw and centred later, so that any part of the run can be combined with any other.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from solver.analysis.batch_means import Array
from solver.analysis.moments import NAMES
from solver.discretisation.calculus import Components, Operators
from solver.discretisation.fusion import fused
from solver.discretisation.staggered import above, edge
from solver.discretisation.velocity import Gradient
from solver.flow.closure import STRESS_INDEX, EddyViscosity, SubgridForce, SubgridStress, SubgridTerm
from solver.flow.simulation import Simulation
from solver.observers.subgrid_work import SubgridWork
from solver.observers.time_average import TimeAverage

log = logging.getLogger("solver")


class Moments:
    """Means over x and z (x alone in a duct) of the quantities `NAMES`, as a function of y (and z).

    ``flux_xy`` is the flux of u through the upper y faces of the cells, as momentum has it, and ``sgs_flux_xy`` the
    subgrid part of it. ``wall_flux_xy`` is that through modelled walls across y, beyond the viscous flux from the first
    centres to fluid at rest there; it stands in the cells beside them, as ``wall_flux_xz`` does at walls across z, and
    is zero elsewhere. ``eps_sgs`` is the work of `SubgridWork`, ``tau_*``, ``nu_t`` and ``force_x`` what the closure
    gives at centres.
    """

    def __init__(self, operators: Operators) -> None:
        self.operators, self.work = operators, SubgridWork(operators)
        self.dims = tuple(d for d, axis in ((-3, 0), (-1, 2)) if operators.grid.axes[axis].is_fourier)

    def sample(self, simulation: Simulation, term: SubgridTerm | None) -> Tensor:
        """One sample, (len(NAMES), local ny, nz or 1)."""
        velocity = simulation.velocity
        p = simulation.pressure()
        gradient = velocity.gradient
        nu_t = term.nu_t if isinstance(term, EddyViscosity) else None
        tau = list(term.tau) if isinstance(term, SubgridStress) else None
        force = term.force[0] if isinstance(term, SubgridForce) else None
        work, subgrid = self.work(velocity, term)
        resolved = torch.zeros_like(subgrid)
        if 1 in self.operators.volume_axes:
            resolved = above(simulation.flow.equation.advected(velocity.staggered, 0, 1, simulation.flow.strain), 1)
        means = self._means(velocity.centred, p, gradient, nu_t, tau, work, [resolved, subgrid], force)
        return torch.stack([m.reshape(m.shape[-2:]) for m in means] + self._wall_fluxes(simulation))

    def _wall_fluxes(self, simulation: Simulation) -> list[Tensor]:
        """The rows ``wall_flux_xy`` and ``wall_flux_xz`` (collective)."""
        stress, u = simulation.present_stress(), simulation.velocity.centred[0]
        rows = []
        for axis in (1, 2):
            flux = torch.zeros_like(u.mean(self.dims, keepdim=True))
            for end, (tau, _) in (stress.planes.get(axis, {}) if stress else {}).items():
                to_wall = 0.5 * edge(self.operators.metric[axis].width, axis, -end)
                beyond = tau - simulation.nu * edge(u, axis, -end) / to_wall
                edge(flux, axis, -end).copy_((beyond if end else -beyond).mean(self.dims, keepdim=True))
            rows.append(flux.reshape(flux.shape[-2:]))
        return rows

    @fused
    def _means(
        self,
        velocity: Components,
        p: Tensor,
        g: Gradient,
        nu_t: Tensor | None,
        tau: list[Tensor] | None,
        eps_sgs: Tensor,
        flux: list[Tensor],
        force: Tensor | None,
    ) -> list[Tensor]:
        u, v, w = velocity
        zero = torch.zeros_like(u)
        if tau is None:
            pairs = sorted(STRESS_INDEX, key=STRESS_INDEX.__getitem__)
            tau = [zero if nu_t is None else -nu_t * (g[i][j] + g[j][i]) for i, j in pairs]
        squares = [g[i][0] ** 2 + g[i][1] ** 2 + g[i][2] ** 2 for i in range(3)]
        carried = u * tau[STRESS_INDEX[0, 1]] + v * tau[STRESS_INDEX[1, 1]] + w * tau[STRESS_INDEX[1, 2]]
        fields = [u, v, w, p, u * u, v * v, w * w, u * v, u * w, v * w]
        fields += [*tau, zero if nu_t is None else nu_t, eps_sgs]
        fields += [*squares, p * v, u * u * v, v * v * v, w * w * v, carried, flux[0] + flux[1]]
        fields += [flux[1], zero if force is None else force]
        return [f.mean(self.dims, keepdim=True) if self.dims else f for f in fields]


class Statistics(TimeAverage):
    """Time means of `Moments`; `moments` are those of another flow on the grid, whose kernels then serve both."""

    name = "statistics"

    def __init__(
        self, operators: Operators, start: float, width: float, every_steps: int, moments: Moments | None = None
    ) -> None:
        super().__init__(operators, start, width, every_steps)
        self.moments = moments or Moments(operators)

    def sample(self, simulation: Simulation) -> Tensor:
        """The moments of the present flow."""
        return self.moments.sample(simulation, simulation.present_term())

    def restore(self, state: dict[str, Array]) -> None:
        """Continue from `state`, unless another version wrote it, which averaged something else."""
        if "sums" in state and state["sums"].shape[1] != len(NAMES):
            log.warning("averages begin anew: those of the checkpoint are of another version of the code")
            return
        super().restore(state)
