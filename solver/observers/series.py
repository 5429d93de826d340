"""``timeseries.csv``: one row of global numbers every few steps, flushed as it is written."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch

from solver.discretisation.calculus import Components, Operators
from solver.discretisation.velocity import Velocity
from solver.files.folder import write_text, writing
from solver.flow.closure import STRESS_INDEX, EddyViscosity, SubgridStress
from solver.flow.forcing import bulk_velocity
from solver.flow.simulation import Simulation
from solver.observers.schedule import StepSchedule


def kinetic_energy(simulation: Simulation) -> float:
    """Volume mean of ``u.u / 2``."""
    op = simulation.operators
    return sum(0.5 * float(op.inner_product(c, c, i)) for i, c in enumerate(simulation.velocity.coefficients))


def fluctuation_energy(operators: Operators, velocity: Components) -> torch.Tensor:
    """Volume mean of half the square of the velocity, without the mean over Fourier directions if there are any."""
    total = operators.tensor(0.0)
    for i, c in enumerate(velocity):
        if operators.grid.fourier_axes:
            c = c.clone()
            operators.mean_mode(c).zero_()
        total = total + 0.5 * operators.inner_product(c, c, i)
    return total


def momentum_imbalance(simulation: Simulation) -> float:
    """What a surrogate's last step adds to the mean flow of a channel beyond drive, stresses and friction, or takes.

    Root mean square over y of the mean along x and z of `Flow.midpoint_misfit`, in units of the driving force that
    balances the friction at the walls; nan where the solver made the step (collective).
    """
    op, misfit = simulation.operators, simulation.misfit
    if misfit is None:
        return math.nan
    mean = op.mean_mode(misfit[0])[..., 0, 0, :, :].mean(-1).flatten().double()
    share = op.metric[1].width.flatten().to(mean) / op.grid.y.length
    size = float(op.decomposition.sum((mean * mean * share).sum()).sqrt())
    return size * op.grid.reach_of_walls(1) / wall_friction_velocity(simulation) ** 2


def viscous_dissipation(simulation: Simulation) -> float:
    """Volume mean of ``nu grad u : grad u``, what viscosity turns into heat."""
    return simulation.nu * float(simulation.flow.equation.squared_gradient(simulation.velocity.padded_coefficients))


def subgrid_dissipation(simulation: Simulation) -> float:
    """Volume mean of ``-tau_ij s_ij``."""
    term, op = simulation.present_term(), simulation.operators
    if not isinstance(term, (EddyViscosity, SubgridStress)):
        return 0.0
    g = simulation.velocity.gradient
    density = torch.zeros_like(g[0][0])
    for (i, j), index in STRESS_INDEX.items():
        s = 0.5 * (g[i][j] + g[j][i])
        twice = 1.0 if i == j else 2.0
        density = density + twice * (
            2.0 * term.nu_t * s * s if isinstance(term, EddyViscosity) else -term.tau[index] * s
        )
    return volume_mean(op, density)


def volume_mean(operators: Operators, f: torch.Tensor) -> float:
    """Volume mean of a centred physical field."""
    weight = torch.ones((1, 1, 1), dtype=operators.dtype, device=operators.device)
    for axis in operators.volume_axes:
        weight = weight * operators.metric[axis].width / operators.grid.axes[axis].length
    fourier = [operators.grid.axes[d].points for d in range(3) if d not in operators.volume_axes]
    for points in fourier:
        weight = weight / points
    return float(operators.decomposition.sum((f * weight).sum()))


def scalar_mean(simulation: Simulation, name: str) -> float:
    """Volume mean of a scalar."""
    return volume_mean(simulation.operators, simulation.operators.to_physical(simulation.state.scalars[name]))


def scalar_rms(simulation: Simulation, name: str) -> float:
    """Root of the volume mean of the squared distance of a scalar from its volume mean."""
    f, mean = simulation.state.scalars[name], scalar_mean(simulation, name)
    return math.sqrt(max(float(simulation.operators.inner_product(f, f)) - mean * mean, 0.0))


def wall_friction_velocity(simulation: Simulation) -> float:
    """``sqrt(nu |d(U, W)/dy|)``, the slope averaged over the no-slip walls in y, from the first cells or a model."""
    op, stress = simulation.operators, simulation.present_stress()
    planes, y = op.decomposition.planes, op.grid.y
    u, _, w = (op.mean_mode(c)[..., 0, 0, :, :].mean(-1).flatten() for c in simulation.velocity.coefficients)
    slopes = torch.zeros(2, 2, dtype=torch.float64)
    walls = op.grid.walls[1]
    for end, (wall, here) in enumerate(zip(walls, (planes.start == 0, planes.stop == y.points), strict=True)):
        if wall and here and wall.modelled and stress:
            slopes[end] = torch.stack([tau.mean() for tau in stress.planes[1][end]]).double().cpu() / simulation.nu
        elif wall and here:
            jump = float(u[-end]) - wall.velocity[0], float(w[-end]) - wall.velocity[2]
            slopes[end] = torch.tensor(jump, dtype=torch.float64) / (0.5 * y.width[-end])
    slope = op.decomposition.sum(slopes).norm(dim=1).sum() / sum(wall is not None for wall in walls)
    return float((simulation.nu * slope).sqrt())


def _of_velocity(simulation: Simulation, value: Callable[[Velocity], float]) -> float:
    return value(simulation.velocity)


def columns(simulation: Simulation) -> dict[str, Callable[[], float]]:
    """The columns that make sense for this flow; every one is collective."""
    grid, op = simulation.operators.grid, simulation.operators
    found: dict[str, Callable[[], float]] = {
        "step": lambda: simulation.step_count,
        "time": lambda: simulation.t,
        "dt": lambda: simulation.dt if simulation.step_count else math.nan,
        "cfl": lambda: simulation.dt * simulation.control.advection_rate if simulation.step_count else math.nan,
        "bulk_velocity": lambda: float(bulk_velocity(op, simulation.velocity.coefficients[0])),
        "kinetic_energy": lambda: kinetic_energy(simulation),
        "dissipation": lambda: viscous_dissipation(simulation),
        "max_divergence": lambda: simulation.max_divergence,
        "max_velocity": lambda: float(
            op.decomposition.max(torch.stack([f.abs().amax() for f in simulation.velocity.centred]).amax())
        ),
    }
    if simulation.closure is not None:
        found["sgs_dissipation"] = lambda: subgrid_dissipation(simulation)
    if simulation.surrogate is not None:
        found["residual_trust"] = lambda: simulation.residual_trust
        found["fluctuation_energy"] = lambda: float(fluctuation_energy(op, simulation.velocity.coefficients))
        if grid.is_channel:
            found["momentum_imbalance"] = lambda: momentum_imbalance(simulation)
    for name, value in getattr(simulation.closure, "series_columns", {}).items():
        found[name] = partial(_of_velocity, simulation, value)
    for name in simulation.state.scalars:
        found[f"{name}_mean"] = partial(scalar_mean, simulation, name)
        found[f"{name}_rms"] = partial(scalar_rms, simulation, name)
    if grid.x.periodic and not grid.y.is_fourier:
        found["forcing"] = lambda: float(simulation.state.drive)
    if 1 in grid.walls and grid.x.is_fourier and grid.z.is_fourier:
        half = grid.reach_of_walls(1)
        found["u_tau"] = lambda: wall_friction_velocity(simulation)
        if simulation.nu > 0:
            found["re_tau"] = lambda: wall_friction_velocity(simulation) * half / simulation.nu
    return found


class TimeSeries:
    """Appends a row every `every_steps` steps and at the end; a restart drops the rows after its checkpoint.

    Rows of legs with other columns keep their numbers: what one leg does not have is empty.

    Parameters
    ----------
    simulation, folder, every_steps : what, where, how often.
    more : columns of other hooks, which act earlier in a step.
    before : `every_steps` of the leg before; a row at the restart that is off its steps was the end of that leg.
    """

    name = "series"

    def __init__(
        self,
        simulation: Simulation,
        folder: Path,
        every_steps: int,
        more: Mapping[str, Callable[[], float]] | None = None,
        before: int = 1,
    ) -> None:
        self.schedule, self.path = StepSchedule(every_steps), folder / "timeseries.csv"
        self.columns = columns(simulation) | dict(more or {})
        self.header = list(self.columns)
        self.is_root = simulation.operators.decomposition.is_root
        self.latest: dict[str, float] = {}
        self.worst_divergence = 0.0
        if self.is_root:
            self._keep_rows_until(simulation.step_count, before)
        if simulation.step_count == 0:
            self.write()

    def _keep_rows_until(self, step: int, before: int) -> None:
        """Root only: rows after `step` go, also one that a killed run left unfinished."""
        text = self.path.read_text(encoding="utf-8") if step and self.path.exists() else ""
        old = csv.DictReader(text[: text.rfind("\n") + 1].splitlines())
        self.header += [name for name in old.fieldnames or () if name not in self.columns]
        whole = [row for row in old if None not in row.values() and (row.get("step") or "").isdigit()]
        kept = [row for row in whole if (n := int(row["step"])) < step or (n == step and n % before == 0)]
        self.worst_divergence = max((float(row.get("max_divergence") or 0.0) for row in kept), default=0.0)
        table = [self.header, *([row.get(name, "") for name in self.header] for row in kept)]
        write_text(self.path, "".join(",".join(row) + "\n" for row in table))

    def __call__(self, simulation: Simulation) -> None:
        """Write a row, if it is time."""
        if self.schedule.due(simulation):
            with simulation.timers("series"):
                self.write()

    def finish(self, simulation: Simulation) -> None:
        """The row of the last state, if it has none yet (collective)."""
        if self.latest.get("step") != simulation.step_count:
            self.write()

    def write(self) -> None:
        """Evaluate every column and append the row."""
        self.latest = {name: value() for name, value in self.columns.items()}
        self.worst_divergence = max(self.worst_divergence, self.latest["max_divergence"])
        if self.is_root:
            cells = (f"{self.latest[name]:.12g}" if name in self.latest else "" for name in self.header)
            with writing(self.path), self.path.open("a") as file:
                file.write(",".join(cells) + "\n")
