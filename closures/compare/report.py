"""The report: ``report.html`` (one self-contained file), ``report.json``, ``table.csv``, ``summary.md``, figures."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jinja2

from closures.compare import figures, methods
from closures.compare.channels import ChannelJudge
from closures.compare.runs import Run
from closures.compare.trainings import over_trainings
from closures.compare.uncertainty import Estimate, Word
from closures.compare.verdicts import Comparison, Judged
from solver.analysis.channel import SUBGRID
from solver.files.folder import to_toml, write_atomically, write_json, write_table, write_text
from solver.run.leg import differences

TEMPLATE = Path(__file__).parent / "report.html"
MARKS: dict[str, str] = {"better": "▲", "worse": "▼", "not distinguishable": "=", "not judged": "?"}
Record = dict[str, Any]


def record_of(comparison: Comparison, command: str, extra: Mapping[str, Any] | None = None) -> Record:
    """Everything that the report says, as plain values: what is shown in HTML, CSV and Markdown comes from here."""
    runs = [run for judged in comparison.members for run in judged.member.runs]
    first = runs[0]
    target = comparison.target
    return {
        "case": first.summary["case"],
        "title": first.case.title,
        "grid": first.summary["grid"],
        "reference": {"name": target.name, "citation": target.citation, "basis": target.basis} if target else None,
        "baseline": comparison.baseline,
        "unit": comparison.unit,
        "command": command,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "quantities": [
            {"key": q.name, "label": q.label, "meaning": q.meaning, "unit": q.unit, "scale": q.scale, "floor": q.floor}
            for q in comparison.metrics
        ],
        "rows": [_row(judged, comparison) for judged in comparison.members],
        "trainings": [
            {
                "label": found.label,
                "members": list(found.members),
                "errors": {q.name: _number(found.errors.item(i)) for i, q in enumerate(comparison.metrics)},
            }
            for found in over_trainings(comparison.members)
        ],
        "pairs": [{"one": p.one, "other": p.other, "word": p.word, **_number(p.difference)} for p in comparison.pairs],
        "differences": _differences(runs),
        "provenance": [{"folder": str(run.folder), "seed": run.seed, **_origin(run)} for run in runs],
        "timing": "as each run timed itself, which says little where runs shared a machine",
        "settings": to_toml(first.case.model_dump(exclude_none=True, exclude={"closure"})),
    } | dict(extra or {})


def _number(found: Estimate) -> Record:
    return {"value": float(found.value), "ci95": float(found.half_width), "p": float(found.p_value)}


def _row(judged: Judged, comparison: Comparison) -> Record:
    member, keys = judged.member, [q.name for q in comparison.metrics]
    row: Record = {
        "label": member.label,
        "closure": member.runs[0].case.closure.model_dump(),
        "status": member.status,
        "seeds": [run.seed for run in member.runs],
        "folders": [str(run.folder) for run in member.runs],
        "weights": member.runs[0].weights,  # of a network, which one it was
        "averaging_time": sum(float(run.summary.get("averaging_time") or 0.0) for run in member.sound),
        "words": dict(zip(keys, judged.words, strict=False)),
        "verdict": verdict(judged, comparison),
        "cost": judged.cost.as_dict(),
    }
    for name, found in (
        ("errors", judged.errors),
        ("differences", judged.difference),
        ("equal_wall", judged.equal_wall),
    ):
        row[name] = None if found is None else {key: _number(found.item(i)) for i, key in enumerate(keys)}
    if isinstance(comparison.judge, ChannelJudge) and member.sound:
        values = [float(run.summary["re_tau"]) for run in member.sound]
        row["re_tau"] = sum(values) / len(values)
        found = comparison.judge.subgrid(member)
        row["subgrid"] = {name: _number(found.item(i)) for i, name in enumerate(SUBGRID)}
    return row


def verdict(judged: Judged, comparison: Comparison) -> str:
    """One sentence on a member."""
    member = judged.member
    if member.broken:
        return f"{member.status}: worse than any number"
    if not comparison.metrics:
        return "no reference: nothing to judge"
    if member.label == comparison.baseline:
        return "the baseline"
    parts = []
    order: tuple[Word, ...] = ("better", "worse", "not distinguishable", "not judged")
    for word in order:
        labels = [q.label for q, found in zip(comparison.metrics, judged.words, strict=True) if found == word]
        if len(labels) == len(comparison.metrics):
            return f"{word} in everything" if word in ("better", "worse") else word
        if labels:
            parts.append(f"{word.capitalize()}: {'; '.join(labels)}")
    return ". ".join(parts)


def _differences(runs: Sequence[Run]) -> list[Record]:
    """Keys in which the cases differ, with the value of each run."""
    keys = sorted({key for run in runs[1:] for key in differences(runs[0].case, run.case)})
    found = []
    for key in keys:
        pairs = [differences(runs[0].case, run.case).get(key) for run in runs]
        first = next(pair[0] for pair in pairs if pair is not None)
        found.append({"key": key, "values": [first if pair is None else pair[1] for pair in pairs]})
    return found


def _origin(run: Run) -> Record:
    p = run.provenance
    machine = p.get("machine", {})
    return {
        "commit": run.commit,
        "machine": f"{machine.get('processor', 'unknown')}, {machine.get('cores', '?')} cores",
        "ranks": p.get("ranks"),
        "threads": p.get("threads"),
        "command": p.get("command"),
        "versions": p.get("versions"),
    }


def percent(number: Mapping[str, float] | None, quantity: Mapping[str, Any]) -> str:
    """``value ± half width`` in the unit of its quantity; "unsure" where that is unknown."""
    if number is None or not math.isfinite(number["value"]):
        return "-"
    scale = quantity["scale"]
    value, width = scale * number["value"], scale * number["ci95"]
    digits = 1 if quantity["unit"] == "%" else 2
    return f"{value:.{digits}f} ± {width:.{digits}f}" if math.isfinite(width) else f"{value:.{digits}f}, unsure"


def significant(value: float | None, digits: int = 3) -> str:
    """A number to three digits, a dash where there is none."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}g}"


def measured(value: float | None) -> str:
    """A cost, or that there is none."""
    return "not measured" if value is None or not math.isfinite(value) else significant(value)


def csv_columns(record: Record) -> dict[str, list[Any]]:
    """One row for each member and quantity."""
    names = ("member", "status", "quantity", "unit", "value", "ci95", "difference", "difference_ci95", "word")
    rows: list[tuple[Any, ...]] = []
    for row in record["rows"]:
        for q in record["quantities"]:
            error = (row["errors"] or {}).get(q["key"], {})
            change = (row["differences"] or {}).get(q["key"], {})
            rows.append(
                (
                    row["label"],
                    row["status"],
                    q["key"],
                    "1" if q["unit"] == "%" else q["unit"],
                    error.get("value", math.nan),
                    error.get("ci95", math.nan),
                    change.get("value", math.nan),
                    change.get("ci95", math.nan),
                    row["words"].get(q["key"], ""),
                )
            )
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


def markdown(record: Record, width: int | None = None) -> str:
    """A summary for the terminal; in a narrow one the table leaves out quantities, the last first, never names."""
    quantities = record["quantities"]
    against = f"against {record['reference']['citation']}" if record["reference"] else "without a reference"
    head = ["closure", "status", *(f"{q['label']} [{q['unit']}]" for q in quantities), f"core s / {record['unit']}"]
    lines = [f"# {record['case']} {against}", ""]
    if record["reference"] and "basis" in record["reference"]:  # records kept from before have none
        lines += [f"Judged by {record['reference']['basis']}.", ""]
    table = [head, [":--" if i < 2 else "--:" for i in range(len(head))]]
    for row in record["rows"]:
        refused = row["cost"].get("guard_interventions")
        cells = [row["label"], f"{row['status']} ({refused} refused)" if refused else row["status"]]
        for q in quantities:
            mark = MARKS.get(row["words"].get(q["key"], ""), "")
            cells.append(f"{percent((row['errors'] or {}).get(q['key']), q)} {mark}".strip())
        cells.append(measured(row["cost"]["core_seconds_per_unit"]))
        table.append(cells)
    if any(q["floor"] for q in quantities):
        floors = [significant(q["scale"] * q["floor"], 2) if q["floor"] else "-" for q in quantities]
        table.append(["*floor*", "", *floors, ""])
    left_out = _narrow(table, width)
    lines += [" | ".join(["", *cells, ""]).strip() for cells in table]
    lines += ["", f"Too wide for this terminal, and in table.csv: {', '.join(left_out)}."] if left_out else []
    lines += ["", f"▲ better, ▼ worse, = not distinguishable from {record['baseline']}; ± 95 % intervals."]
    if any(q["floor"] for q in quantities):
        lines.append("A difference below the floor is none: so far references of the same flow disagree.")
    lines.append("")
    if len(commits := sorted({origin["commit"] for origin in record.get("provenance", ())})) > 1:
        lines.append(f"- These runs were made by different versions of the code: {', '.join(commits)}.")
    lines += [f"- **{f['run']}** failed: {f['reason']}" for f in record.get("failures", [])]
    lines += [f"- **{row['label']}**: {row['verdict']}" for row in record["rows"]]
    for found in record.get("trainings", ()):
        values = "; ".join(f"{q['label']} {percent(found['errors'][q['key']], q)}" for q in quantities)
        lines.append(f"- **{found['label']}**, mean over {len(found['members'])} trainings: {values}")
    return "\n".join(lines) + "\n"


def _narrow(table: list[list[str]], width: int | None) -> list[str]:
    """Take columns out of a table until it fits: quantities from the last to the first, then cost, then status."""
    left_out: list[str] = []
    while width is not None and len(table[0]) > 1:
        if sum(max(map(len, column)) + 3 for column in zip(*table, strict=True)) < width:
            break
        gone = -2 if len(table[0]) > 4 else -1
        left_out.insert(0, table[0][gone])
        for cells in table:
            del cells[gone]
    return left_out


def write(comparison: Comparison, record: Record, out: Path) -> list[figures.Picture]:
    """Write the whole report into the folder `out`; every file appears whole."""
    pictures = figures.draw(comparison)
    for picture in pictures:
        write_atomically(out / "figures" / f"{picture.name}.png", partial(_write_bytes, data=picture.png))
    write_json(out / "report.json", record)
    write_table(out / "table.csv", csv_columns(record))
    write_text(out / "summary.md", markdown(record))
    write_text(out / "report.html", html(record, pictures))
    return pictures


def _write_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def html(record: Record, pictures: Sequence[figures.Picture]) -> str:
    """The report as one page that needs nothing from anywhere else."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters |= {"percent": percent, "significant": significant, "measured": measured}
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    paper = {"methods": methods.paragraph(record), "bibtex": methods.bibtex(record)}
    return template.render(**record, **paper, pictures=pictures, marks=MARKS)
