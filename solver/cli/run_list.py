"""What is in a folder of runs, as far as it can be read: half finished, locked and damaged runs included."""

from __future__ import annotations

import json
import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from solver.files import folder as rundir
from solver.files import lock
from solver.files.checkpoint_file import checkpoints
from solver.files.folder import PRODUCTS
from solver.run.leg import BROKEN, FAILED

RUNNING, NOT_ENDED, DAMAGED = "running", "not ended", "damaged"
LONGEST_ROW = 400  # bytes


@dataclass(frozen=True)
class Found:
    """One run folder.

    Parameters
    ----------
    status : that of its summary; else "running", "not ended", or "damaged" where a file of it cannot be read.
    time : that it has reached; NaN where nothing tells.
    end : that its case sets; NaN where that cannot be read.
    """

    folder: Path
    case: str
    closure: str
    status: str
    time: float
    end: float
    steps: int | None = None
    errors: dict[str, Any] = field(default_factory=dict)
    writer: str = ""

    @property
    def is_worthless(self) -> bool:
        """Whether it can neither be gone on with nor compared: broken, or ended by an error before a checkpoint."""
        if self.writer:
            return False
        kept = bool(checkpoints(self.folder))
        return self.status in BROKEN or (self.status in (FAILED, NOT_ENDED) and not kept)

    def row(self) -> dict[str, str]:
        """What one line says of it."""
        return {
            "run": self.folder.name,
            "case": self.case,
            "closure": self.closure,
            "status": self.status,
            "t": _number(self.time) + (f"/{self.end:g}" if math.isfinite(self.end) else ""),
            "steps": "" if self.steps is None else str(self.steps),
            **{name: _percent(self.errors.get(key)) for name, key in (("U %", "u_mean"), ("C_f %", "c_f"))},
            "against": str(self.errors.get("reference", "")),
        }


def find(folder: Path) -> list[Found]:
    """The run in a folder, or all those in folders within it, in the order of their names."""
    if is_run(folder):
        return [read(folder)]
    try:
        inner = sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError:
        return []
    return [read(path) for path in inner if is_run(path)]


def is_run(folder: Path) -> bool:
    """Whether `solver run` made it: it says so itself, or a run is about to begin there."""
    return (folder / "provenance.json").is_file() or (
        (folder / rundir.LOCK).is_file() and not any((folder / name).exists() for name in ("card.json", "recipe.toml"))
    )


def read(folder: Path) -> Found:
    """What can be told of a run folder; raises nothing for what it holds."""
    about, damaged = _json(folder / "provenance.json")
    summary, bad_summary = _json(folder / "summary.json")
    table, bad_case = _toml(folder / "case.toml")
    writer = lock.writer(folder)
    time = _float(summary.get("time"))
    reached = {name: column[-1] for name, column in history(folder, 1).items()}
    last = reached.get("time", math.nan)
    going_on = bool(writer) or not summary
    status = str(summary.get("status", NOT_ENDED))
    if damaged or bad_summary or bad_case:
        status = DAMAGED
    closure = table.get("closure", {})
    errors = summary.get("errors")
    return Found(
        folder,
        str(about.get("case") or summary.get("case") or ""),
        str(closure.get("name", "none") if isinstance(closure, dict) and table else summary.get("closure", "")),
        RUNNING if writer else status,
        last if going_on and not math.isnan(last) else time,
        _float(table.get("time", {}).get("end") if isinstance(table.get("time"), dict) else None),
        _whole(reached.get("step")) if going_on else _whole(summary.get("steps")),
        errors if isinstance(errors, dict) else {},
        writer,
    )


def timings(folder: Path) -> dict[str, float]:
    """Milliseconds a step of each part, of a run that has ended; empty before that."""
    parts = _json(folder / "summary.json")[0].get("milliseconds_per_step")
    found = {name: _float(spent) for name, spent in parts.items()} if isinstance(parts, dict) else {}
    return {name: spent for name, spent in found.items() if math.isfinite(spent)}


def products(folder: Path) -> list[Path]:
    """What a run has written into its folder; files that others put there are not among them."""
    places = [folder / rundir.LOCK, *folder.glob(".*.part")]
    if (about := folder / "provenance.json").is_file():
        places += [folder / name for name in PRODUCTS]
        places += [path for path in _copied(folder) if path.resolve().is_relative_to(folder.resolve())]
        places.append(about)  # last: without it nothing more would be known to be of the run
    return [path for path in dict.fromkeys(places) if path.is_symlink() or path.exists()]


def _copied(folder: Path) -> list[Path]:
    """The files beside its case that a run has a copy of: see `solver.case.case.Case.files`."""
    table, _ = _toml(folder / "case.toml")
    reference, initial, solids = (
        found if isinstance(found := table.get(name), dict) else {} for name in ("reference", "initial", "solids")
    )
    shapes = solids.get("shapes")
    names = [name for key, name in reference.items() if key != "name"] + [initial.get("spectrum")]
    names += [shape.get("path") for shape in shapes if isinstance(shape, dict)] if isinstance(shapes, list) else []
    return [folder / name for name in names if isinstance(name, str) and name]


def _json(path: Path) -> tuple[dict[str, Any], bool]:
    """A JSON object, and whether there is something that is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, False
    except (OSError, ValueError, RecursionError):
        return {}, True
    return (found, False) if isinstance(found, dict) else ({}, True)


def _toml(path: Path) -> tuple[dict[str, Any], bool]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")), False
    except FileNotFoundError:
        return {}, False
    except (OSError, ValueError, RecursionError):
        return {}, True


def history(folder: Path, rows: int) -> dict[str, list[float]]:
    """The last rows of ``timeseries.csv`` by column, at most so many; one that is not whole is left out."""
    path = folder / "timeseries.csv"
    try:
        with path.open("rb") as file:
            names = file.readline().decode().strip().split(",")
            file.seek(max(file.tell(), path.stat().st_size - rows * LONGEST_ROW))
            lines = file.read().decode(errors="replace").split("\n")[:-1]
    except (OSError, ValueError):
        return {}
    whole = [cells for line in lines[-rows:] if len(cells := line.split(",")) == len(names)]
    return {name: [_float(cells[i]) for cells in whole] for i, name in enumerate(names)} if whole else {}


def _float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _whole(value: Any) -> int | None:
    number = _float(value)
    return int(number) if math.isfinite(number) else None


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else ""


def _percent(value: Any) -> str:
    number = 100 * _float(value)
    return f"{number:.1f}" if math.isfinite(number) else ""
