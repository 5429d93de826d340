"""What periodic boxes are judged by: energy, its decay, enstrophy and spectrum in time, increments of velocity."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from closures.compare.fields import common_times, increment_distance, snapshots
from closures.compare.metrics import added, measured
from closures.compare.references import Target
from closures.compare.runs import Member, Run
from closures.compare.uncertainty import Estimate, over_repeats
from solver.analysis.batch_means import Array
from solver.analysis.metrics import Metric
from solver.errors import CaseError, RunFolderError
from solver.files.reference_files import read_complete

SETTLED = 0.1  # of the common time: before it all runs are still the initial field
INSTANTS = 64  # at which curves in time are compared


@dataclass(frozen=True)
class Decay:
    """Resolved energy in time, and its spectrum where there is one: `spectra` is (times, k), energy per unit k."""

    times: Array
    energy: Array
    k: Array = field(default_factory=lambda: np.zeros(0))
    spectra: Array = field(default_factory=lambda: np.zeros((0, 0)))

    @property
    def rate(self) -> Array:
        """``-dE/dt``."""
        return -np.gradient(self.energy, self.times, edge_order=2)

    @property
    def enstrophy(self) -> Array:
        """``sum k^2 E(k, t) dk``, half the mean square of the vorticity."""
        total: Array = (self.k**2 * self.spectra).sum(1) * self.k[0]  # shells are as far apart as the first from none
        return total

    def at(self, t: Array) -> Array:
        """Energy, its rate and, with spectra, enstrophy at the times `t`, (2 or 3, times)."""
        rows = [self.energy, self.rate] + ([self.enstrophy] if self.spectra.size else [])
        return np.stack([np.interp(t, self.times, row) for row in rows])

    def logs(self, t: Array) -> Array:
        """log10 of the spectrum, (times, shells from the first on), linear in time."""
        logs = np.log10(np.maximum(self.spectra, 1e-300))
        return np.stack([np.interp(t, self.times, column) for column in logs.T], axis=1)


@dataclass(frozen=True)
class BoxInTime:
    """What a metric of a box sees: a run and its reference in time, both cut off to the scales that both carry.

    Parameters
    ----------
    run : whose errors are wanted.
    reference : the run that it is held against; None for a table.
    ours, truth : resolved energy and spectra of both.
    times : at which they are compared.
    """

    run: Run
    reference: Run | None
    ours: Decay
    truth: Decay
    times: Array

    @cached_property
    def curves(self) -> Array:
        """Relative L2 errors in time of energy, its loss and, with spectra, enstrophy."""
        value, expected = self.ours.at(self.times), self.truth.at(self.times)
        return np.asarray(np.sqrt(((value - expected) ** 2).sum(1) / (expected**2).sum(1)))

    @property
    def spectra(self) -> float:
        """Rms of log10 of the ratio of spectra."""
        return float(np.sqrt(((self.ours.logs(self.times) - self.truth.logs(self.times)) ** 2).mean()))

    @property
    def increments(self) -> float:
        """The distance of the densities of velocity increments."""
        assert self.reference is not None
        return increment_distance(self.run, self.reference, self.times[0])


ENERGY = Metric(
    "energy", "E(t)", "resolved kinetic energy in time, relative L2", lambda b: b.curves[0], "box", symbol="$E(t)$"
)
DECAY = Metric(
    "dissipation",
    "-dE/dt",
    "loss of resolved energy in time, relative L2",
    lambda b: b.curves[1],
    "box",
    symbol=r"$-\mathrm{d}E/\mathrm{d}t$",
)
ENSTROPHY = Metric(
    "enstrophy",
    "Omega(t)",
    "enstrophy of the resolved scales in time, relative L2",
    lambda b: b.curves[2],
    "box",
    symbol=r"$\Omega(t)$",
)
SPECTRUM = Metric(
    "spectrum",
    "E(k, t)",
    "rms of log10 of the ratio to the reference over resolved shells and times",
    lambda b: b.spectra,
    "box",
    symbol="$E(k,t)$",
    scale=1.0,
    unit="decades",
)
INCREMENTS = Metric(
    "increments",
    "p(du)",
    "half the area between the densities of velocity increments over a cell",
    lambda b: b.increments,
    "box",
    symbol=r"$p(\delta u)$",
)
METRICS = (ENERGY, DECAY, ENSTROPHY, SPECTRUM, INCREMENTS)


def highest_shell(run: Run) -> float:
    """The largest wavenumber whose whole shell the run's grid carries."""
    grid = run.case.build_grid()
    return min(axis.highest_mode * 2 * np.pi / axis.length for axis in grid.fourier_axes.values())


def shell_decay(run: Run, cut: float) -> Decay | None:
    """From ``spectra.csv``, shells 0 < k <= `cut`; None where the run sampled none."""
    table = run.table("spectra")
    if table is None or "time" not in table:
        return None
    times, k = np.unique(table["time"]), np.unique(table["k"])
    if len(times) < 3 or len(times) * len(k) != len(table["E"]):
        return None
    kept = (k > 0) & (k <= cut * (1 + 1e-9))
    spectra = table["E"].reshape(len(times), len(k))[:, kept]
    return Decay(times, spectra.sum(1) * (k[1] - k[0]), k[kept], spectra)


def series_decay(run: Run) -> Decay:
    """From ``timeseries.csv``: the energy of all modes.

    Raises
    ------
    RunFolderError : the run has fewer than three rows.
    """
    table = run.table("timeseries")
    if table is None or len(table["time"]) < 3:
        raise RunFolderError(f"{run.folder}: has no time series: run it again with a smaller [output] every_steps")
    return Decay(table["time"], table["kinetic_energy"])


@dataclass(frozen=True)
class BoxJudge:
    """Judges the members of a box comparison; pairs of runs with the same seed are compared seed by seed."""

    first: Run
    target: Target
    flows: ClassVar[tuple[str, ...]] = ("box",)  # whose metrics of other packages are asked
    _known: dict[Path, Array] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def truth(self) -> Decay:
        """The reference in time.

        Raises
        ------
        CaseError : the reference has nothing of a box.
        """
        if self.target.run is not None:
            found = shell_decay(self.target.run, self.cut)
            return found if found is not None else series_decay(self.target.run)
        path = self.target.files.get("dissipation")
        if path is None:
            raise CaseError(
                f"reference {self.target.name}: has nothing that a box can be compared with: "
                "give a run folder with --reference, for example of a direct simulation"
            )
        table = read_complete(path, ("t", "kinetic_energy"))
        return Decay(table["t"], table["kinetic_energy"])

    @cached_property
    def cut(self) -> float:
        """The largest wavenumber that both the runs and a reference run resolve."""
        ours = highest_shell(self.first)
        return ours if self.target.run is None else min(ours, highest_shell(self.target.run))

    @property
    def by_shells(self) -> bool:
        """Whether spectra can be compared."""
        return self.truth.spectra.size > 0

    @property
    def metrics(self) -> list[Metric]:
        """What the columns of `errors` are."""
        by_shells = [ENSTROPHY, SPECTRUM] if self.by_shells else []
        return [ENERGY, DECAY, *by_shells, *([INCREMENTS] if self.by_increments else []), *added(*self.flows)]

    @cached_property
    def by_increments(self) -> bool:
        """Whether the flow is homogeneous and the reference a run with snapshots at the times of the runs'."""
        reference, homogeneous = self.target.run, self.first.case.initial.kind != "shear_layers"
        if reference is None or not homogeneous:
            return False
        ours, theirs = (np.array(sorted(snapshots(run.folder))) for run in (self.first, reference))
        return bool((common_times(ours, theirs) > 0).any())

    @property
    def exact(self) -> bool:
        """Whether the initial field is drawn from no random numbers."""
        return self.first.case.initial.kind in ("taylor_green", "rest")

    def decay(self, run: Run) -> Decay:
        """One run in time, as the reference is given.

        Raises
        ------
        RunFolderError : the run has no spectra in time.
        """
        found = shell_decay(run, self.cut) if self.by_shells else series_decay(run)
        if found is None:
            remedy = "set [output] spectra in the case and run it again"
            raise RunFolderError(f"{run.folder}: it has no spectra in time, so nothing can be compared: {remedy}")
        return found

    def of_run(self, run: Run) -> Array:
        """Errors of one run; every pair of members asks for them again."""
        if run.folder not in self._known:
            self._known[run.folder] = measured(self.metrics, self.seen(run))
        return self._known[run.folder]

    def seen(self, run: Run) -> BoxInTime:
        """What metrics see of one run, from its files.

        Raises
        ------
        CaseError : run and reference have hardly a time in common.
        """
        ours, truth = self.decay(run), self.truth
        start, end = max(ours.times[0], truth.times[0]), min(ours.times[-1], truth.times[-1])
        if end - start < SETTLED * (ours.times[-1] - ours.times[0]):
            raise CaseError(
                f"{run.folder}: covers t = {ours.times[0]:.3g} to {ours.times[-1]:.3g}, the reference "
                f"{self.target.name} {truth.times[0]:.3g} to {truth.times[-1]:.3g}: no overlap"
            )
        t = np.linspace(start + SETTLED * (end - start), end, INSTANTS)
        return BoxInTime(run, self.target.run, ours, truth, t)

    def errors(self, member: Member) -> Estimate:
        """Errors of one member, mean over its seeds."""
        return over_repeats(np.stack([self.of_run(run) for run in member.sound]), self.exact)

    def difference(self, member: Member, baseline: Member) -> Estimate:
        """Errors of `member` minus those of `baseline`, paired by seed where both have run the same seeds."""
        ours, theirs = ({run.seed: self.of_run(run) for run in m.sound} for m in (member, baseline))
        common = sorted(ours.keys() & theirs.keys())
        if common:
            return over_repeats(np.stack([ours[s] - theirs[s] for s in common]), self.exact)
        one, other = self.errors(member), self.errors(baseline)
        variance = one.variance + other.variance
        freedom = variance**2 / (one.variance**2 / one.freedom + other.variance**2 / other.freedom)
        return Estimate(one.value - other.value, variance, freedom)
