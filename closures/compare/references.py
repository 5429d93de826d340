"""What runs are compared with: published tables, another run, or a filtered direct simulation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from closures.compare.filtered import bulk_reynolds, filtered_spectra, of_grid_or_refuse, own_statistics, statistics_of
from closures.compare.filtering import filtered_moments
from closures.compare.runs import Run, read
from closures.compare.uncertainty import Sample
from closures.data.folder import files_of, members
from solver.analysis.batch_means import Array
from solver.analysis.channel import ChannelProfiles, table_of
from solver.analysis.reference import ChannelReference, leaves_out_much
from solver.case.case import Case
from solver.errors import CaseError
from solver.figures.results import Results, Table
from solver.files.reference_files import read_complete
from solver.grid.axis import FiniteVolumeAxis

FILTERED = "filtered-dns"
SAME_FLOW = 0.1  # relative difference of bulk Reynolds numbers up to which a comparison means something
SAME_RE_TAU = 0.06  # of friction Reynolds numbers, for a second database
DATABASES = Path(__file__).parent / "databases"


@dataclass(frozen=True)
class Target:
    """A reference, whichever kind: `at` gives the table, from the means of `sample` where it is a run."""

    name: str
    citation: str
    files: dict[str, Path]
    run: Run | None = None
    channel: ChannelProfiles | None = None
    sample: Sample | None = None
    mean_flow_only: bool = False  # the whole flow is the reference, and the grid leaves out much of it

    @property
    def is_filtered(self) -> bool:
        """Whether it is a direct simulation seen through a grid."""
        return self.name == FILTERED

    @property
    def basis(self) -> str:
        """What runs are held against, in words."""
        if self.mean_flow_only:
            whole = "a simulation filtered to another grid" if self.is_filtered else "the whole flow"
            return (
                f"{whole}, while this grid leaves out much of the flow, so by mean flow, friction and total shear "
                "stress alone: no statistics filtered to the grid are known"
            )
        if self.is_filtered:
            return "a direct simulation filtered to the scales that the grid carries"
        return "another run" if self.run is not None else "the whole flow, not filtered to the grid"

    def at(self, means: Array | None = None) -> ChannelReference:
        """Profiles in wall units over the half channel."""
        if self.channel is None or self.sample is None:
            return ChannelReference.read(self.files["profiles"])
        return table_of(self.channel, self.sample.mean if means is None else means)

    def spectra(self, direction: str) -> Table | None:
        """One-dimensional spectra of planes: ``y_over_h, k, E_uu, E_vv, E_ww``, energy per unit k in wall units."""
        if "filtered" in self.files and self.channel is not None and self.sample is not None:
            u_tau = self.channel.friction_velocity(self.channel.fold(self.sample.mean))
            return filtered_spectra(self.files["filtered"], direction, u_tau)
        if self.run is not None:
            return _run_spectra(self.run, direction) if self.channel and not self.is_filtered else None
        path = self.files.get(f"spectra_{direction}")
        if path is None or not path.is_file():
            return None
        table = read_complete(path, ("y_over_h", f"k_{direction}_h", "E_uu", "E_vv", "E_ww"))
        k = table[f"k_{direction}_h"]
        spacing = np.diff(np.unique(k))[0]
        return {"y_over_h": table["y_over_h"], "k": k} | {
            name: table[name] / spacing for name in ("E_uu", "E_vv", "E_ww")
        }


def channel_of(case: Case) -> ChannelProfiles:
    """The evaluator of a channel's means."""
    y = case.build_grid().y
    assert isinstance(y, FiniteVolumeAxis)
    return ChannelProfiles(y, case.flow.nu)


def resolve(wanted: str | None, runs: list[Run], folder: Path | None = None) -> Target | None:
    """`find` for finished runs; by default with the files that the first one took along when it began.

    Raises
    ------
    CaseError : no such reference, or one of another flow.
    """
    target = find(wanted, runs[0].case, folder or runs[0].folder)
    if target is not None:
        _check_same_flow(target, runs)
    return target


def find(wanted: str | None, case: Case, folder: Path) -> Target | None:
    """The reference that `--reference` asks for, readable; None where the case has none.

    By default it is a direct simulation filtered to the grid of the case, where there is one, since a large-eddy
    simulation should carry no more than that; else the case's published tables, by which the stresses on a coarse grid
    are judged only if they are asked for by name. `folder` has the case's files.

    Raises
    ------
    CaseError : no such reference, or it cannot be read.
    """
    table = case.reference
    if wanted is None and (own := own_statistics(case, folder)) is not None:
        return _of_statistics(own)
    if wanted is None or (table is not None and wanted.lower() == table.name.lower()):
        if table is None:
            return None
        files = {key: path for key, path in table.files(folder).items() if key != "filtered"}
        first = next(iter(files), None)
        citation = Results(folder, files).citation(first) if first else table.name
        target = Target(table.name, citation, files)
        if "profiles" in files and (grid := case.build_grid()).is_channel:
            viscous_length = channel_of(case).half_height / target.at().re_tau
            target = replace(target, mean_flow_only=wanted is None and leaves_out_much(grid, viscous_length))
    elif wanted.partition(":")[0] == FILTERED:
        beside = table.files(folder).get("filtered") if table else None
        named, own = wanted.partition(":")[2], own_statistics(case, folder)
        target = _filtered(named or str(own or beside or ""), case)
        if not named and own is None and beside is not None:
            target = replace(target, mean_flow_only=True)
    else:
        if not Path(wanted).is_dir():
            known = f"'{table.name.lower()}' (the case's own), " if table else ""
            raise CaseError(f"--reference {wanted}: should be {known}'{FILTERED}:RUN' or a run folder")
        run = read(Path(wanted))
        if run.broken:
            raise CaseError(f"--reference {wanted}: the run is '{run.status}': nothing can be compared with it")
        target = Target(run.folder.name, f"run {run.folder.name}", {}, run)
        if case.build_grid().is_channel and run.case.build_grid().is_channel:
            target = replace(target, channel=channel_of(run.case), sample=Sample.of([run.moments]))
    return target


def _filtered(path: str, case: Case) -> Target:
    """A data set, or the filtered snapshots of a direct simulation of a channel; box spectra are cut off anyway."""
    if not path:
        found = sorted(p.parent for p in Path("runs").glob("*_dns-none-*/summary.json"))
        same = [p for p in found if abs(np.log(bulk_reynolds(read(p).case) / bulk_reynolds(case))) < SAME_FLOW]
        if not same:
            raise CaseError(
                f"--reference {FILTERED}: runs/ holds no direct simulation of this flow: "
                f"`solver run` its *_dns case with snapshots, then --reference {FILTERED}:RUN"
            )
        path = str(same[-1])
    if Path(path).is_file() or any(files_of(Path(path)).values()):
        return _of_statistics(Path(path))
    if members(Path(path)):
        return _of_statistics(of_grid_or_refuse(Path(path), case))
    run = read(Path(path))
    target = Target(FILTERED, f"filtered DNS ({run.folder.name})", {}, run)
    if not case.build_grid().is_channel:
        return target
    sample = filtered_moments(run.folder, case.build_grid())
    return replace(target, channel=channel_of(run.case), sample=sample)


def _of_statistics(path: Path) -> Target:
    profiles, sample = statistics_of(path)
    return Target(FILTERED, "filtered DNS", {"filtered": path}, None, profiles, sample)


def _check_same_flow(target: Target, runs: list[Run]) -> None:
    run = next((run for run in runs if "re_bulk" in run.summary and not run.broken), None)
    if run is not None and (target.sample is not None or "profiles" in target.files):
        table = target.at()
        here, there = run.summary["re_bulk"], 2 * table.bulk * table.re_tau
        if abs(np.log(here / there)) > SAME_FLOW:
            raise CaseError(
                f"reference {target.name}: its bulk Reynolds number is {there:.0f}, that of the runs {here:.0f}: "
                "no overlap; choose a reference of the same flow"
            )
    elif target.run is not None:
        theirs, ours = target.run.case, runs[0].case
        lengths = [np.array([axis.length for axis in case.build_grid().axes]) for case in (theirs, ours)]
        if theirs.flow.nu != ours.flow.nu or not np.allclose(lengths[0], lengths[1], rtol=1e-9):
            raise CaseError(
                f"reference {target.name}: its nu = {theirs.flow.nu:g} and box {_sides(lengths[0])} are not those of "
                f"the runs, {ours.flow.nu:g} and {_sides(lengths[1])}: no overlap"
            )


def _sides(lengths: Array) -> str:
    return " x ".join(f"{side:.4g}" for side in lengths)


def _run_spectra(run: Run, direction: str) -> Table | None:
    """``spectra.csv`` of a reference run in wall units."""
    spectra = run.table("spectra")
    if spectra is None or "direction" not in spectra:
        return None
    here = spectra["direction"] == direction
    k = spectra["k"][here]
    spacing = np.diff(np.unique(k))[0]
    half = 0.5 * run.case.build_grid().y.length
    u_tau = float(run.summary["u_tau"])
    return {"y_over_h": spectra["y"][here] / half, "k": k} | {
        name: spectra[name][here] / (spacing * u_tau**2) for name in ("E_uu", "E_vv", "E_ww")
    }


@cache
def _databases() -> list[ChannelReference]:
    return [ChannelReference.read(path) for path in sorted(DATABASES.glob("channel_*.csv"))]


def second_opinions(reference: ChannelReference) -> list[ChannelReference]:
    """Published databases of nearly the same friction Reynolds number: how far they disagree is the floor."""
    return [d for d in _databases() if abs(d.re_tau / reference.re_tau - 1) < SAME_RE_TAU]
