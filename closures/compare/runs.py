"""Finished run folders as values, and whether they may be compared: one difference at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from closures.compare.uncertainty import Sample
from solver.analysis.batch_means import Array, whole_batches
from solver.analysis.moments import NAMES
from solver.case.case import Case, load_case
from solver.errors import CaseError, RunFolderError
from solver.figures.results import Table, read_table
from solver.files.checkpoint_file import latest
from solver.files.hdf5 import open_hdf5
from solver.run.leg import BROKEN, FAILED, differences

UNKNOWN = "unknown"  # commit of what an installed wheel has made
MAY_DIFFER = ("closure", "wall_model", "initial.seed")  # what is compared, one of two, and what is repeated
SHOWN = 12  # differing keys that a refusal lists


@dataclass(frozen=True)
class Run:
    """One run folder, read."""

    folder: Path
    case: Case
    summary: dict[str, Any]
    provenance: dict[str, Any]

    @property
    def status(self) -> str:
        """One of "finished", "stopped", "diverged" and "laminar"."""
        return str(self.summary["status"])

    @property
    def seed(self) -> int:
        """Seed of the initial field."""
        return self.case.initial.seed

    @property
    def broken(self) -> bool:
        """Whether its numbers mean nothing because the flow blew up or died: it is judged as worse than any number."""
        return self.status in BROKEN

    @property
    def weights(self) -> str:
        """SHA-256 of the network's weights; empty for a closure without."""
        return str(self.provenance.get("closure", {}).get("weights_sha256", ""))

    @property
    def commit(self) -> str:
        """Short name of the code that made it."""
        return (self.provenance.get("commit") or UNKNOWN)[:10] + ("+" if self.provenance.get("dirty") else "")

    def table(self, name: str) -> Table | None:
        """``<name>.csv``, or None."""
        path = self.folder / f"{name}.csv"
        table = read_table(path) if path.is_file() else {}
        return table if table and len(next(iter(table.values()))) else None

    @cached_property
    def moments(self) -> tuple[Array, Array]:
        """Sums ``(batches, len(NAMES), ny, nz or 1)`` and weights ``(batches,)`` of the time averages.

        Raises
        ------
        RunFolderError : the run kept no statistics.
        """
        path = self.folder / "statistics.h5"
        remedy = "set [statistics] start before [time] end and run it again"
        if not path.is_file():
            raise RunFolderError(f"{self.folder}: it has no statistics.h5, so nothing can be compared: {remedy}")
        try:
            with open_hdf5(path) as file:
                state = {name: file[f"batches/{name}"][()] for name in ("span", "weights", "sums")}
                names = tuple(file.attrs["names"])
        except (OSError, KeyError) as error:
            reason = str(error).partition("\n")[0]
            raise RunFolderError(f"{path}: holds no batches of time ({reason}): {remedy}") from None
        if names != NAMES[: len(names)]:
            raise RunFolderError(f"{path}: its means are those of another version of the code: run the case again")
        batches, known, *planes = state["sums"].shape
        none = np.zeros((batches, len(NAMES) - known, *planes))  # of younger quantities: nothing of the kind acted
        return whole_batches(np.concatenate([state["sums"], none], 1), state["weights"], float(state["span"][1]))

    @cached_property
    def plane_spectra(self) -> tuple[Array, Array] | None:
        """Sums ``(batches, 3, kx then kz, ny, 1)`` and weights from the last checkpoint; None without them."""
        try:
            state = latest(self.folder).group("plane_spectra")
        except RunFolderError:
            return None
        if "sums" not in state:
            return None
        return whole_batches(state["sums"][()], state["weights"], float(state["span"][1]))


def read(folder: Path) -> Run:
    """Read a run folder; a diverged run is a result like any other.

    Raises
    ------
    RunFolderError : no run folder, or one of a run that has not come to its end.
    """
    if not (folder / "provenance.json").is_file():
        raise RunFolderError(f"{folder}: no run folder (it has no provenance.json): give one made by `solver run`")
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        remedy = f"finish it with `solver run {folder} --restart {folder}`"
        raise RunFolderError(f"{folder}: the run has not ended (it has no summary.json): {remedy}") from None
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{folder}: its summary cannot be read ({error}): run the case again") from None
    if summary.get("status") == FAILED:
        remedy = f"see {folder / 'log.txt'}, then `solver run {folder} --restart {folder}`"
        raise RunFolderError(f"{folder}: the run ended by an error at t = {summary['time']:.6g}: {remedy}")
    case, _ = load_case(folder)
    return Run(folder, case, summary, provenance)


@dataclass(frozen=True)
class Member:
    """One side of the comparison: the same closure with the same options, run once for each seed."""

    label: str
    runs: tuple[Run, ...]

    @property
    def sound(self) -> tuple[Run, ...]:
        """Runs whose numbers mean something."""
        return tuple(run for run in self.runs if not run.broken)

    @property
    def broken(self) -> str:
        """The status of its first broken run, else an empty string."""
        return next((run.status for run in self.runs if run.broken), "")

    @property
    def status(self) -> str:
        """For people: the status, and of how many runs."""
        bad = [run for run in self.runs if run.status != "finished"]
        if not bad:
            return "finished"
        when = f" at t = {bad[0].summary['time']:.4g}"
        return f"{bad[0].status}{when}" + (f" ({len(bad)} of {len(self.runs)})" if len(self.runs) > 1 else "")

    @cached_property
    def moments(self) -> Sample:
        """Moments of all sound runs."""
        return Sample.of([run.moments for run in self.sound])

    @cached_property
    def plane_spectra(self) -> Sample | None:
        """Plane spectra of all sound runs, None if one has none."""
        found = [run.plane_spectra for run in self.sound]
        return None if None in [f if f is None else 0 for f in found] else Sample.of([f for f in found if f])


def group(runs: Sequence[Run], extra: Mapping[Path, str] | None = None) -> list[Member]:
    """Runs with the same ``[closure]``, ``[wall_model]`` and weights become one member, in order of appearance.

    Members of one name are told apart by their options and weights, or by the word that `extra` gives for a folder.
    """
    found: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        tables = run.case.closure.model_dump_json(), run.weights, run.case.wall_model.model_dump_json()
        found.setdefault(tables, []).append(run)
    trained: dict[str, set[str]] = {}
    for closure, weights, _ in found:
        trained.setdefault(closure, set()).add(weights)
    several = len({walls for _, _, walls in found}) > 1
    cases = [members[0].case for members in found.values()]
    names = [f"{c.closure.name}, wall: {c.wall_model.name}" if several else c.closure.name for c in cases]
    members = []
    for case, name, (closure, weights, _), same in zip(cases, names, found, found.values(), strict=True):
        _check_seeds(same)
        given = [f"{key} = {_short(value)}" for key, value in case.closure.options.items()]
        given += [f"{key} = {_short(value)}" for key, value in case.wall_model.given.items()] if several else []
        options = ", ".join([*given, *([f"weights {weights[:8]}"] if len(trained[closure]) > 1 else [])])
        word = (extra or {}).get(same[0].folder, "")
        ambiguous = names.count(name) > 1 and options
        detail = " ".join(part for part in (word, options if ambiguous or word else "") if part)
        members.append(Member(f"{name} ({detail})" if detail else name, tuple(same)))
    return members


def _check_seeds(runs: Sequence[Run]) -> None:
    seeds = [run.seed for run in runs]
    for run in runs:
        if seeds.count(run.seed) > 1:
            both = [str(other.folder) for other in runs if other.seed == run.seed]
            raise CaseError(
                f"{', '.join(both)}: the same closure and the same seed {run.seed}: they are one run, not two; "
                "leave one out or change [initial] seed"
            )


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def allowed(key: str) -> bool:
    """Whether runs that differ in `key` are still one comparison."""
    return any(key == free or key.startswith(f"{free}.") for free in MAY_DIFFER)


def require_one_difference(runs: Sequence[Run]) -> None:
    """Refuse runs whose resolved cases differ outside ``[closure]`` or ``[wall_model]``, but not both, and the seed.

    Raises
    ------
    CaseError : with the keys and both values.
    """
    closures = {run.case.closure.model_dump_json() for run in runs}
    walls = {run.case.wall_model.model_dump_json() for run in runs}
    if len(closures) > 1 and len(walls) > 1:
        raise CaseError(
            f"{runs[0].folder} and others differ in [closure] and in [wall_model]: which of them a difference is "
            "due to cannot be told. Keep one, or say --different-cases to compare them all the same"
        )
    for run in runs[1:]:
        found = {k: v for k, v in differences(runs[0].case, run.case).items() if not allowed(k)}
        if found:
            listed = "; ".join(f"{k}: {a!r} against {b!r}" for k, (a, b) in list(found.items())[:SHOWN])
            more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            raise CaseError(
                f"{runs[0].folder} and {run.folder} differ outside [closure]: {listed}{more}. "
                "Run both with the same case, or say --different-cases to compare them all the same"
            )
