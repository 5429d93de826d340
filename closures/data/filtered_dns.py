"""Direct simulation filtered while it runs: snapshots, subgrid stress and statistics on the coarse grid."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

from closures.data.commutator import Commutator
from closures.data.filters import on_points
from closures.data.flow_recipe import FlowRecipe
from closures.data.flow_store import Rows
from solver.operators import Operators
from solver.shells import shell_energies
from solver.simulation import Simulation

TOLERANCE = 1e-9  # of the interval: how exactly a snapshot is in time


class FilteredFlow:
    """Hook: filters the flow each time a snapshot is due, and hands the rows to `sink` on the root of the flow.

    Parameters
    ----------
    commutator : filter and subgrid stress.
    recipe : when snapshots are due, and what is stored of them.
    sink : ``sink(frame, rows)``.
    count : snapshots taken before.
    """

    name = "filtered_flow"

    def __init__(
        self, commutator: Commutator, recipe: FlowRecipe, sink: Callable[[int, Rows], object], count: int = 0
    ) -> None:
        self.commutator, self.recipe, self.sink, self.count = commutator, recipe, sink, count

    @property
    def due(self) -> float:
        """Time of the next snapshot."""
        return self.recipe.sampling.spin_up + self.count * self.recipe.sampling.interval

    @property
    def complete(self) -> bool:
        """Whether all have been taken."""
        return self.count >= self.recipe.sampling.snapshots

    def __call__(self, simulation: Simulation) -> str | None:
        """Take a snapshot if it is time; ``finished`` with the last one."""
        if not self.complete and simulation.t >= self.due - TOLERANCE * self.recipe.sampling.interval:
            with simulation.timers("output"):
                rows = self.rows(simulation)
            if simulation.operators.decomposition.is_root:
                self.sink(self.count, rows)
            self.count += 1
        return "finished" if self.complete else None

    def rows(self, simulation: Simulation) -> Rows:
        """What the file keeps of the present flow (collective)."""
        op, strain = self.commutator.filter.coarse, self.commutator.strain
        filtered = self.commutator.velocity(simulation.velocity)
        tau = [_values(op, f) for f in self.commutator.stress(simulation.velocity, filtered)]
        padded = filtered.padded_coefficients
        velocity = [_values(op, strain.to_centre(f, i)) for i, f in enumerate(padded)]
        rows: dict[str, np.ndarray] = {
            "t1_fields/velocity": np.stack(velocity, -1).astype(np.float32),
            "statistics/moments": plane_means(velocity, tau),
        }
        if self.recipe.store.staggered:
            staggered = [_values(op, f) for f in filtered.coefficients]
            rows["t1_fields/staggered_velocity"] = np.stack(staggered, -1).astype(np.float32)
        if self.recipe.store.stress:
            xx, yy, zz, xy, xz, yz = tau
            matrix = np.stack([np.stack(row, -1) for row in ((xx, xy, xz), (xy, yy, yz), (xz, yz, zz))], -2)
            rows["t2_fields/subgrid_stress"] = matrix.astype(np.float32)
        if op.grid.is_channel:
            rows["statistics/wall_stress"] = np.array(wall_stress(simulation))
        if op.grid.is_box:
            rows["statistics/spectrum"] = shell_energies(op, filtered.coefficients)
        return rows


def _values(op: Operators, f: Tensor) -> np.ndarray:
    return on_points(op, f).cpu().double().numpy()


def plane_means(velocity: list[np.ndarray], tau: list[np.ndarray]) -> np.ndarray:
    """Means over x and z of the `MOMENTS`, (moments, ny): exact, for n points carry the products of their modes."""
    u, v, w = velocity
    fields = [u, v, w, u * u, v * v, w * w, u * v, u * w, v * w, *tau]
    return np.stack([f.mean(axis=(0, 2)) for f in fields])


def wall_stress(simulation: Simulation) -> float:
    """``nu |dU/dy|`` at the walls of a channel, mean of both, on the fine grid, kinematic (collective)."""
    op, line = simulation.operators, simulation.operators.grid.volume_axes[1]
    weights = np.zeros(line.n)
    weights[0], weights[-1] = 0.5 / line.spacing[0], 0.5 / line.spacing[-1]  # ghosts mirror the velocity: a slope of
    column = op.mean_mode(simulation.velocity.coefficients[0])  # 2 u / spacing, and the mean of two walls
    share = (column * op.along(op.local(2.0 * weights, 1), 1)).sum()
    return simulation.nu * float(op.decomposition.sum(share))
