"""Watches for NaN, blow-up, laminarisation and drift of the mass flux; asks to stop, in words."""

from __future__ import annotations

import logging
import math

import torch

from solver.forcing import MassFlux, bulk_velocity
from solver.hooks.schedule import StepSchedule
from solver.hooks.series import kinetic_energy
from solver.simulation import Simulation

log = logging.getLogger("solver")


class Health:
    """Asks to stop with ``diverged`` or ``laminar``.

    Parameters
    ----------
    simulation : for its initial energy.
    every_steps : how often energy and mass are looked at; dt is looked at after every step.
    expect_turbulence : whether a flow without cross-stream motion is a failure.
    """

    name = "health"

    def __init__(self, simulation: Simulation, every_steps: int, expect_turbulence: bool) -> None:
        self.schedule, self.expect_turbulence = StepSchedule(every_steps), expect_turbulence
        self.initial_energy = max(kinetic_energy(simulation), 1.0)

    def __call__(self, simulation: Simulation) -> str | None:
        """One look."""
        if not math.isfinite(simulation.dt) or simulation.dt <= 0:
            log.error(
                "diverged at step %d: the velocity is not finite (the last limit on dt was %s)",
                simulation.step_count,
                simulation.control.limit,
            )
            return "diverged"
        if not self.schedule.due(simulation):
            return None
        energy = kinetic_energy(simulation)
        if not math.isfinite(energy) or energy > 100 * self.initial_energy:
            log.error(
                "diverged at step %d, t = %.4g: kinetic energy %.3g; try a smaller [time] cfl or a finer grid",
                simulation.step_count,
                simulation.t,
                energy,
            )
            return "diverged"
        if self.expect_turbulence and self._laminar(simulation, energy):
            log.error(
                "laminar at step %d, t = %.4g: turbulence died; raise [initial] amplitude or the Reynolds number",
                simulation.step_count,
                simulation.t,
            )
            return "laminar"
        self._check_mass(simulation)
        return None

    def _laminar(self, simulation: Simulation, energy: float) -> bool:
        op, (_, v, w) = simulation.operators, simulation.velocity.coefficients
        cross = 0.5 * float(op.inner_product(v, v, 1) + op.inner_product(w, w, 2))
        return cross < 1e-6 * energy

    def _check_mass(self, simulation: Simulation) -> None:
        if isinstance(simulation.forcing, MassFlux):
            drift = abs(
                float(bulk_velocity(simulation.operators, simulation.velocity.coefficients[0]))
                - simulation.forcing.bulk
            )
            scale = abs(simulation.forcing.bulk) or 1.0
            if drift > max(1e-6, 100 * torch.finfo(simulation.operators.dtype).eps) * scale:
                log.warning("step %d: bulk velocity is off by %.2g", simulation.step_count, drift)
