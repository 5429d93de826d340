"""Error against cost over several grids: whether a closure beats refining the grid at equal cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter
from rich.console import Console

from closures.compare.looks import dot, legend_columns
from closures.compare.report import measured, percent, significant
from closures.compare.runs import Run, read
from closures.compare.timing import load, timed_alone
from solver import terminal
from solver.errors import CaseError
from solver.figures.style import paper, save, sheet
from solver.files.folder import write_json

SHOWN = ("profiles", "c_f")  # of the quantities, if all judge them; else the first two
SAME = ("case", "baseline", "unit")  # in all reports of a front
Record = dict[str, Any]


@dataclass(frozen=True)
class Point:
    """One closure on one grid: core seconds for a unit of flow time (NaN if not measured), and errors as fractions."""

    grid: str
    label: str
    core_seconds: float
    errors: dict[str, dict[str, float]]


def front(reports: Sequence[Path], out: Path | None = None, console: Console | None = None) -> Path:
    """Time the closures of several reports again, all in turn, and set error against cost; returns the folder.

    Parameters
    ----------
    reports : folders of `compare`, of one case on several grids; the runs that they name are still there.
    out : folder for ``front.json`` and ``front.png``, by default ``runs/front-<case>``.

    Raises
    ------
    CaseError : no two reports, or reports of several cases, baselines or units.
    RunFolderError : a run that a report names is gone.
    """
    console = console or terminal.console()
    records = [_record(folder) for folder in reports]
    _require_one_front(reports, records)
    beside = load()
    console.print(f"timing the closures of {len(records)} grids, in turn{f' ({beside})' if beside else ''}")
    points = points_of(records, timed_alone([run for record in records for run in _runs(record)]))
    out = out or Path("runs") / f"front-{records[0]['case']}"
    quantities = _shown(records)
    found = {key: records[0][key] for key in SAME} | {"quantities": quantities, "timing": beside}
    write_json(out / "front.json", found | {"points": [asdict(point) for point in points]})
    with paper():
        save(figure(points, quantities, records[0]["unit"]), out / "front.png")
    console.print(table(points, quantities, records[0]["baseline"], records[0]["unit"]), markup=False, highlight=False)
    console.print(f"figure: {out / 'front.png'}    data: front.json", highlight=False)
    return out


def _record(folder: Path) -> Record:
    try:
        record: Record = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        whole = {*SAME, "rows", "quantities"} <= record.keys()
    except (OSError, ValueError, AttributeError):
        whole = False
    if not whole:
        raise CaseError(f"{folder}: no report of `solver compare` (its report.json cannot be read)")
    return record


def _require_one_front(reports: Sequence[Path], records: Sequence[Record]) -> None:
    if len(records) < 2:
        raise CaseError("compare --front: give the reports of two or more grids")
    for folder, record in zip(reports, records, strict=True):
        if differs := [f"{k} {record[k]!r}, not {records[0][k]!r}" for k in SAME if record[k] != records[0][k]]:
            raise CaseError(f"{folder}: not of the front of {reports[0]}: {'; '.join(differs)}")


def _runs(record: Record) -> list[Run]:
    """The first run of each closure that can be judged."""
    return [read(Path(row["folders"][0])) for row in record["rows"] if row["errors"]]


def points_of(records: Sequence[Record], timed: Sequence[Run]) -> list[Point]:
    """Points of all closures on all grids, the cheapest grid of the baseline first; `timed` as from `_runs`.

    A report knows how many steps a unit of time takes, times the cores; what one takes is what was timed now.
    """
    points, runs = [], iter(timed)
    for record in records:
        for row in (row for row in record["rows"] if row["errors"]):
            run, cost = next(runs), row["cost"]
            known = cost["core_seconds_per_unit"] is not None  # or it was not timed, and its steps are not known
            steps = cost["core_seconds_per_unit"] / cost["seconds_per_step"] if known else np.nan
            seconds = float(run.summary["seconds_per_step"]) * steps
            errors = {key: {k: np.nan if v is None else v for k, v in e.items()} for key, e in row["errors"].items()}
            points.append(Point(_grid_of(run), row["label"], seconds, errors))
    cheap = {p.grid: p.core_seconds for p in points if p.label == records[0]["baseline"]}
    return sorted(points, key=lambda p: cheap.get(p.grid, np.inf))


def figure(points: Sequence[Point], quantities: Sequence[Record], unit: str) -> Figure:
    """One panel a quantity, one line a closure through its grids; both axes logarithmic."""
    drawing, axes = sheet(1, len(quantities), 3.0)
    labels = list(dict.fromkeys(p.label for p in points))
    for panel, quantity in zip(np.ravel(axes), quantities, strict=True):
        least = np.inf
        for i, label in enumerate(labels):
            mine = _known(points, label, quantity["key"])
            found = np.array([[p.errors[quantity["key"]][k] for k in ("value", "ci95")] for p in mine]).reshape(-1, 2)
            value, width = quantity["scale"] * np.nan_to_num(found.T)
            bars = [np.minimum(width, 0.99 * value), width]  # zero has no logarithm: such a bar leaves the panel
            panel.errorbar([p.core_seconds for p in mine], value, bars, ls="-", lw=0.9, label=label, **dot(i))
            least = min([least, *value])
        panel.set(xscale="log", yscale="log", xlabel=f"core seconds a {unit}", ylim=(0.6 * least, None))
        panel.set_ylabel(f"{quantity['label']} [{quantity['unit']}]")
        panel.margins(x=0.05)
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_formatter(LogFormatter())
            axis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))
    handles, names = np.ravel(axes)[0].get_legend_handles_labels()
    drawing.legend(handles, names, loc="outside upper center", ncols=legend_columns(labels))
    return drawing


def at_cost(points: Sequence[Point], label: str, key: str, core_seconds: float) -> float:
    """Error of a closure at a cost, between its grids by straight lines of logarithms; NaN outside of these."""
    mine = sorted((p.core_seconds, p.errors[key]["value"]) for p in _known(points, label, key))
    if not mine:
        return np.nan
    cost, error = np.log(np.array(mine)).reshape(-1, 2).T
    return float(np.exp(np.interp(np.log(core_seconds), cost, error, left=np.nan, right=np.nan)))


def _known(points: Sequence[Point], label: str, key: str) -> list[Point]:
    """Those of a closure whose cost and error have logarithms."""
    mine = [p for p in points if p.label == label and np.isfinite(p.core_seconds)]
    return [p for p in mine if 0.0 < p.errors[key]["value"] < np.inf]


def table(points: Sequence[Point], quantities: Sequence[Record], baseline: str, unit: str) -> str:
    """Markdown: what each closure costs and misses on each grid, and what the baseline misses at that cost."""
    head = ["points", "closure", f"core s / {unit}"]
    for q in quantities:
        head += [f"{q['label']} [{q['unit']}]", f"{baseline} at this cost"]
    lines = [head, [":--", ":--", *["--:"] * (len(head) - 2)]]
    for p in points:
        cells = [p.grid, p.label, measured(p.core_seconds)]
        for q in quantities:
            other = at_cost(points, baseline, q["key"], p.core_seconds)
            cells += [percent(p.errors[q["key"]], q), "" if p.label == baseline else significant(q["scale"] * other, 2)]
        lines.append(cells)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _shown(records: Sequence[Record]) -> list[Record]:
    """Of the quantities that every report judges."""
    common = set.intersection(*({q["key"] for q in record["quantities"]} for record in records))
    known = [q for q in records[0]["quantities"] if q["key"] in common]
    return [q for q in known if q["key"] in SHOWN] or known[:2]


def _grid_of(run: Run) -> str:
    return " x ".join(str(n) for n in run.summary["grid"])
