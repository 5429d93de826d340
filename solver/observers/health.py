"""Watches for NaN, blow-up, laminarisation and drift of the mass flux; asks to stop, in words."""

from __future__ import annotations

import logging
import math

import torch

from solver.flow.forcing import MassFlux, bulk_velocity
from solver.flow.simulation import Simulation
from solver.observers.schedule import StepSchedule
from solver.observers.series import kinetic_energy, wall_friction_velocity

log = logging.getLogger("solver")
BLOW_UP = 5.0  # rms velocity, in units of all that could have set the fluid in motion
QUIET = 0.1  # cross-stream energy in units of u_tau^2; wall turbulence has 0.5 to 1
BUFFER_LAYER = 30.0  # wall units; the laws of wall models hold for the mean above it
PATIENCE = 10.0  # how long it is quiet before a word is said, in units of h / u_tau


class Health:
    """Asks to stop with ``diverged`` or ``laminar``.

    A flow has diverged when its velocity is far beyond what its start, its walls, its inflow and its drive account for:
    the balance of kinetic energy bounds the rms velocity by the sum of these, in any units.

    Parameters
    ----------
    simulation : for its initial energy.
    every_steps : how often energy and mass are looked at; dt is looked at after every step.
    expect_turbulence : whether a flow without cross-stream motion is a failure.
    """

    name = "health"

    def __init__(self, simulation: Simulation, every_steps: int, expect_turbulence: bool) -> None:
        self.schedule, self.expect_turbulence = StepSchedule(every_steps), expect_turbulence
        grid = simulation.operators.grid
        self.start = simulation.t
        self.initial_speed = math.sqrt(2.0 * kinetic_energy(simulation))
        self.imposed_speed = max((math.hypot(*v) for v in grid.imposed_velocities), default=0.0)
        # the slowest decay between no-slip walls: from then on friction balances a body force
        rates = [simulation.nu * (0.5 * math.pi / grid.reach_of_walls(d)) ** 2 for d in grid.walls]
        self.viscous_time = 1.0 / max(rates) if max(rates, default=0.0) > 0 else math.inf
        self.quiet_since: float | None = None
        self.height_said = False

    def driving_speed(self, simulation: Simulation) -> float:
        """What the rms velocity could have become by now without any instability of the scheme."""
        elapsed = min(simulation.t - self.start, self.viscous_time)
        return self.initial_speed + self.imposed_speed + simulation.forcing.speed(elapsed)

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
        energy, expected = kinetic_energy(simulation), 0.5 * self.driving_speed(simulation) ** 2
        if not math.isfinite(energy) or energy > BLOW_UP**2 * expected > 0:
            log.error(
                "diverged at step %d, t = %.4g: kinetic energy %.3g where start, walls and drive account for %.3g; "
                "try a smaller [time] cfl or a finer grid",
                simulation.step_count,
                simulation.t,
                energy,
                expected,
            )
            return "diverged"
        for name, f in simulation.state.scalars.items():
            if simulation.operators.decomposition.agree(not bool(torch.isfinite(f).all())):
                log.error("diverged at step %d: [[scalars]] %s is not finite", simulation.step_count, name)
                return "diverged"
        if self.expect_turbulence and self._laminar(simulation, energy):
            log.error(
                "laminar at step %d, t = %.4g: turbulence died; raise [initial] amplitude or the Reynolds number",
                simulation.step_count,
                simulation.t,
            )
            return "laminar"
        self._check_mass(simulation, energy)
        self._check_height(simulation)
        return None

    def _check_height(self, simulation: Simulation) -> None:
        """Say so, once, if a wall model sees the flow below the log layer."""
        if self.height_said or (walls := simulation.flow.walls) is None or 1 not in walls.ends:
            return
        y_plus = walls.height * wall_friction_velocity(simulation) / simulation.nu
        if y_plus < BUFFER_LAYER:
            log.warning(
                "step %d, t = %.4g: [wall_model] height is at y+ = %.3g, below the log layer (%g and more), where laws "
                "of the wall hold for laminar flow and the mean alone: raise it, or resolve the wall without a model",
                simulation.step_count,
                simulation.t,
                y_plus,
                BUFFER_LAYER,
            )
            self.height_said = True

    def _laminar(self, simulation: Simulation, energy: float) -> bool:
        op, (_, v, w) = simulation.operators, simulation.velocity.coefficients
        cross = 0.5 * float(op.inner_product(v, v, 1) + op.inner_product(w, w, 2))
        self._watch_turbulence(simulation, cross)
        return cross < 1e-6 * energy

    def _watch_turbulence(self, simulation: Simulation, cross: float) -> None:
        """Say so, once, if a channel has long had much less cross-stream motion than its friction calls for."""
        if not simulation.operators.grid.is_channel:
            return
        u_tau = wall_friction_velocity(simulation)
        if not cross < QUIET * u_tau**2:
            self.quiet_since = None
            return
        if self.quiet_since is None:
            self.quiet_since = simulation.t
        patience = PATIENCE * simulation.operators.grid.reach_of_walls(1) / u_tau
        if simulation.t - self.quiet_since > patience:
            log.warning(
                "step %d, t = %.4g: cross-stream energy is %.2g u_tau^2, wall turbulence has 0.5 to 1: the flow is "
                "laminar or the closure too dissipative; try another closure or a finer grid",
                simulation.step_count,
                simulation.t,
                cross / u_tau**2,
            )
            self.quiet_since = math.inf  # once is enough

    def _check_mass(self, simulation: Simulation, energy: float) -> None:
        if isinstance(simulation.forcing, MassFlux):
            drift = abs(
                float(bulk_velocity(simulation.operators, simulation.velocity.coefficients[0]))
                - simulation.forcing.bulk
            )
            scale = abs(simulation.forcing.bulk) or math.sqrt(2.0 * energy)
            if drift > max(1e-6, 100 * torch.finfo(simulation.operators.dtype).eps) * scale:
                log.warning("step %d: bulk velocity is off by %.2g", simulation.step_count, drift)
