"""Direct simulation filtered while it runs: snapshots, subgrid stress and statistics on one coarse grid or several."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from closures.data.commutator import Commutator, products
from closures.data.exchange import exchange
from closures.data.filters import on_points
from closures.data.recipe import SamplingTable, StoreTable
from closures.data.rows import Rows
from solver.discretisation.calculus import Operators
from solver.discretisation.shells import shell_energies
from solver.discretisation.velocity import Velocity
from solver.flow.simulation import Simulation

TOLERANCE = 1e-9  # of the interval: how exactly a snapshot is in time


class FilteredFlow:
    """Hook: filters the flow each time a snapshot is due, and hands the rows to `sink` on the root of the flow.

    Parameters
    ----------
    views : what is kept on each coarse grid, by its name; all see the same step.
    sampling : when snapshots are due.
    sink : ``sink(frame, rows)``, the rows of each grid by its name.
    count : snapshots taken before.
    """

    name = "filtered_flow"

    def __init__(
        self,
        views: Mapping[str, FilteredView],
        sampling: SamplingTable,
        sink: Callable[[int, Mapping[str, Rows]], object],
        count: int = 0,
    ) -> None:
        self.views, self.sampling, self.sink, self.count = views, sampling, sink, count

    @property
    def due(self) -> float:
        """Time of the next snapshot."""
        return self.sampling.spin_up + self.count * self.sampling.interval

    @property
    def complete(self) -> bool:
        """Whether all have been taken."""
        return self.count >= self.sampling.snapshots

    def __call__(self, simulation: Simulation) -> str | None:
        """Take a snapshot if it is time; ``finished`` with the last one."""
        if not self.complete and simulation.t >= self.due - TOLERANCE * self.sampling.interval:
            with simulation.timers("output"):
                rows = self.rows(simulation)
            if simulation.operators.decomposition.is_root:
                self.sink(self.count, rows)
            self.count += 1
        return "finished" if self.complete else None

    def rows(self, simulation: Simulation) -> dict[str, Rows]:
        """What each file keeps of the present flow (collective); products of the velocity are formed once."""
        whole = products(simulation.velocity)
        walls = {}
        if simulation.operators.grid.is_channel:
            walls["statistics/wall_stress"] = np.array(wall_stress(simulation))
        return {name: view.rows(simulation.velocity, whole) | walls for name, view in self.views.items()}


@dataclass(frozen=True)
class FilteredView:
    """The flow as one coarse grid sees it.

    Parameters
    ----------
    commutator : filter and subgrid stress.
    store : what is kept.
    """

    commutator: Commutator
    store: StoreTable

    def rows(self, velocity: Velocity, whole: list[Tensor] | None = None) -> dict[str, np.ndarray]:
        """One snapshot of a file, but for what the walls feel (collective); `whole`: the `products` of the velocity."""
        op, strain = self.commutator.filter.coarse, self.commutator.strain
        filtered = self.commutator.velocity(velocity)
        stress = self.commutator.stress(velocity, filtered, whole)
        centred = [strain.to_centre(f, i) for i, f in enumerate(filtered.padded_coefficients)]
        tau, at_centres = ([_values(op, f) for f in fields] for fields in (stress, centred))
        rows: dict[str, np.ndarray] = {"statistics/moments": plane_means(at_centres, tau)}
        if self.store.velocity:
            rows["t1_fields/velocity"] = np.stack(at_centres, -1).astype(np.float32)
        if self.store.staggered:
            staggered = [_values(op, f) for f in filtered.coefficients]
            rows["t1_fields/staggered_velocity"] = np.stack(staggered, -1).astype(np.float32)
        if self.store.stress:
            xx, yy, zz, xy, xz, yz = tau
            matrix = np.stack([np.stack(row, -1) for row in ((xx, xy, xz), (xy, yy, yz), (xz, yz, zz))], -2)
            rows["t2_fields/subgrid_stress"] = matrix.astype(np.float32)
        if self.store.planes:
            rows |= exchange(filtered, centred, stress)
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
