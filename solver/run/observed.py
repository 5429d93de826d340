"""What observes a run: averages, spectra, snapshots and forces, and what a checkpoint keeps of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from solver.analysis.channel import wall_flows
from solver.case.case import Case
from solver.files.checkpoint_file import Saved
from solver.flow.simulation import Simulation
from solver.observers.checkpoint import restore
from solver.observers.field_means import FieldMeans
from solver.observers.forces import Forces
from solver.observers.scalar_statistics import ScalarStatistics
from solver.observers.snapshots import Snapshots
from solver.observers.spectra import PlaneSpectra, ShellSpectra
from solver.observers.statistics import Statistics
from solver.observers.time_average import TimeAverage
from solver.pressure.learned import LearnedPressure
from solver.pressure.tuning import SelfTuning
from solver.run.leg import Leg


@dataclass(frozen=True)
class Observed:
    """What a case asks for.

    Parameters
    ----------
    statistics : time averages.
    snapshots : of the fields.
    spectra : of a box.
    forces : on the solids, if there are any.
    memory : what a pressure solver that tunes itself knows, and what its guard has counted.
    """

    statistics: list[TimeAverage]
    snapshots: Snapshots
    spectra: list[ShellSpectra]
    forces: list[Forces]
    memory: list[SelfTuning | LearnedPressure]

    @classmethod
    def of(cls, case: Case, simulation: Simulation, folder: Path) -> Observed:
        """Those of a case, which write into a run folder."""
        operators, projection = simulation.operators, simulation.flow.projection
        with_spectra = operators.grid.is_box and case.output.spectra > 0
        # over the second half, unless the case says from when on it averages
        start = case.statistics.start if case.statistics else 0.5 * case.time.end
        return cls(
            averages(case, simulation),
            Snapshots(folder, case.output.snapshot),
            [ShellSpectra(operators, case.output.spectra)] if with_spectra else [],
            [Forces(start, case.solids.coefficients)] if case.solids else [],
            [part for part in (projection.tuning, projection.guard) if part is not None],
        )

    @property
    def others(self) -> list[ShellSpectra | Forces | Snapshots]:
        """All but the averages."""
        return [*self.spectra, *self.forces, self.snapshots]

    @property
    def remembered(self) -> list[TimeAverage | ShellSpectra | Forces | SelfTuning | LearnedPressure]:
        """What a checkpoint keeps."""
        return [*self.statistics, *self.spectra, *self.forces, *self.memory]

    @property
    def columns(self) -> dict[str, Callable[[], float]]:
        """Of the time series, beside those of every flow."""
        return {name: column for hook in self.forces for name, column in hook.columns.items()}

    def restore(self, saved: Saved, simulation: Simulation, leg: Leg) -> None:
        """Go on from a checkpoint: all of it, unless the leg begins averages anew, or another flow.

        Raises
        ------
        RunFolderError : it is of another grid.
        """
        parts = [*([] if leg.averages else self.statistics), *self.spectra, *self.forces]
        kept = [*([] if leg.physics else parts), *self.memory]
        restore(saved, simulation, kept, leg.same_closure, leg.same_walls)

    def look_at_start(self, simulation: Simulation) -> None:
        """See the state from which a flow starts."""
        self.snapshots(simulation)
        for hook in self.spectra:
            hook(simulation)


def averages(case: Case, simulation: Simulation) -> list[TimeAverage]:
    """Time averages, if the case asks for them: over planes where x is homogeneous, else at every cell."""
    if case.statistics is None:
        return []
    table, operators = case.statistics, simulation.operators
    if not operators.grid.x.is_fourier:
        walls = simulation.flow.projection.walls
        solids = walls.solids if walls else None
        return [FieldMeans(operators, solids, table.start, table.every_steps)]
    width = (case.time.end - table.start) / table.batches
    hooks: list[TimeAverage] = [Statistics(operators, table.start, width, table.every_steps)]
    if case.scalars and not operators.grid.is_box:
        carried = [t.scalar for t in simulation.flow.scalars.transports.values()]
        hooks.append(ScalarStatistics(operators, carried, table.start, width, table.every_steps))
    if operators.grid.z.is_fourier and wall_flows(operators.grid, case.flow.nu, driven=False):
        hooks.append(PlaneSpectra(operators, table.start, width, table.every_steps))
    return hooks
