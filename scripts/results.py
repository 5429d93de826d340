"""Results as data: facts of run folders into docs/results/*.json, from there into the tables of three pages.

    python scripts/results.py collect runs/channel180-* --into docs/results/closures.json
    python scripts/results.py collect runs/channel5200-* --into docs/results/walls.json     # modelled walls
    python scripts/results.py judge comparisons/channel180-*   # reports of `solver compare`
    python scripts/results.py judge comparisons/16x16x8 --into docs/results/grids --name 180_16x16x8   # Re_tau, cells
    python scripts/results.py render            # or: render --check, which changes nothing and may fail

docs/results holds closures.json and walls.json (from `collect`), comparisons/CASE[-filtered].json and grids/ (from
`judge`), speed.json (from `solver bench --json docs/results/speed.json`), peers.json (required and other codes' times)
and validation.json, a list of records {claim, required, measured, command, commit}.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from closures.compare.report import MARKS, markdown, significant
from closures.compare.report import percent as percent_of
from solver.analysis.metrics import C_F, PROFILES

ROOT = Path(__file__).parents[1]
Record = dict[str, Any]
FACTS = (
    "case",
    "closure",
    "grid",
    "ranks",
    "dtype",
    "steps",
    "seconds_per_step",
    "wall_seconds",
    "averaging_time",
)
FACTS += ("re_tau", "c_f", "errors", "errors_plus", "ci95", "total_stress_residual", "closure_fraction")
FACTS += ("fft_limit_ratio", "wall_model", "u_plus_departure", "reference_values")
ORDER = ("none", "smagorinsky", "dynamic_smagorinsky", "wale", "vreman", "sigma", "amd", "two_part", "tbnn")
KEY = ("case", "closure", "wall_model", "grid", "ranks")


def facts(run: Path) -> Record:
    """What one finished run folder says about itself."""
    try:
        summary = json.loads((run / "summary.json").read_text())
        origin = json.loads((run / "provenance.json").read_text())
    except OSError as error:
        raise SystemExit(f"{run}: not a finished run folder ({error.strerror}: {Path(error.filename).name})") from None
    if summary["status"] != "finished":
        raise SystemExit(f"{run}: the run is '{summary['status']}', not 'finished'")
    machine = f"{origin['machine']['processor']}, {origin['machine']['cores']} cores"
    commit = (origin["commit"] or "unknown")[:10] + ("+" if origin["dirty"] else "")
    return {name: summary.get(name) for name in FACTS} | {"commit": commit, "machine": machine}


def collect(runs: Iterable[Path], into: Path) -> None:
    """Add runs to a list of records; one of the same case, closure, grid and ranks is replaced."""
    records = {str([r.get(k) for k in KEY]): r for r in load(into) + [facts(run) for run in runs]}
    ordered = sorted(records.values(), key=lambda r: (r["case"], str(r["grid"]), rank_of(r["closure"]), r["ranks"]))
    into.parent.mkdir(parents=True, exist_ok=True)
    into.write_text(json.dumps(ordered, indent=1) + "\n")


def judge(report: Path, into: Path, name: str | None = None) -> None:
    """Keep of a report of `solver compare` what its tables need, and how to repeat it; no path of this machine.

    The file has the name of the case, with "-filtered" where that was the reference, unless another is given.
    """
    record = json.loads((report / "report.json").read_text())
    kept = ("case", "title", "grid", "reference", "baseline", "unit", "created", "quantities")
    parts = ("label", "weights", "status", "averaging_time", "words", "verdict", "cost", "errors")
    made = {f"commit {p['commit']}, {p['machine']}, {p['ranks']} rank(s)" for p in record["provenance"]}
    arguments = record["arguments"]
    filtered = bool(record["reference"]) and record["reference"]["name"] == "filtered-dns"
    commits = {p["folder"]: p["commit"] for p in record["provenance"]}
    rows = [{key: row[key] for key in parts if key in row} for row in record["rows"]]
    for row, whole in zip(rows, record["rows"], strict=True):
        row["commits"] = sorted({commits[folder] for folder in whole["folders"]})
    options = {name: parts for name, *parts in (spec.split(":") for spec in arguments["closures"]) if parts}
    for row in rows:  # one of several with a name has its options in the label already
        if row["label"] in options:
            row["label"] += f" ({', '.join(part.replace('=', ' = ') for part in options[row['label']])})"
    command = shlex.join(words_of(arguments, record["case"]))
    found = {key: record[key] for key in kept} | {"rows": rows, "made": sorted(made), "command": command}
    into.mkdir(parents=True, exist_ok=True)
    stem = name or f"{record['case']}{'-filtered' if filtered else ''}"
    (into / f"{stem}.json").write_text(json.dumps(found, indent=1) + "\n")


def words_of(arguments: Record, case: str) -> list[str]:
    """The command line of a comparison, from its arguments as values; a case by its place in this repository."""
    words = ["solver", "compare"]
    if arguments["closures"]:
        words += [f"cases/{case}", "--closures", ",".join(arguments["closures"])]
    else:
        words += [Path(path).name for path in arguments["paths"]]
    words += ["--tune"] if arguments["tune"] else []
    words += ["--seeds", str(arguments["seeds"])] if arguments["seeds"] > 1 else []
    reference = Path((arguments["reference"] or "").partition(":")[0]).name  # where a run lay is of no use elsewhere
    words += ["--reference", reference] if reference else []
    words += [word for pair in arguments["set"] for word in ("--set", pair)]
    words += ["--quick"] if arguments["quick"] else []
    return words + (["--different-cases"] if arguments["different_cases"] else [])


def load(path: Path) -> list[Record]:
    """The records of a file, none where it is missing."""
    return json.loads(path.read_text()) if path.exists() else []


def rank_of(closure: str) -> tuple[int, str]:
    """Where a closure stands in the tables: the known ones in order, the others by name."""
    return (ORDER.index(closure) if closure in ORDER else len(ORDER), closure)


def grid_of(record: Record) -> str:
    """As in ``32 x 32 x 16``."""
    return " x ".join(map(str, record["grid"]))


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """A Markdown table, its first `left` columns aligned left, the others right."""
    marks = [":--" if i < left else "--:" for i in range(len(header))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, marks, *rows))


def percent(record: Record, key: str) -> str:
    """An error in percent with its interval."""
    value, width = (record["errors"] or {}).get(key), (record["ci95"] or {}).get(key)
    if value is None:
        return "-"
    return f"{100 * value:.1f}" + (f" ± {100 * width:.1f}" if width is not None else "")


def closures(folder: Path) -> str:
    """One table a case and grid: errors in per cent, bulk units, with 95 % half widths; and cost."""
    records, parts = load(folder / "closures.json"), []
    for title in dict.fromkeys((r["case"], grid_of(r)) for r in records):
        group = [r for r in records if (r["case"], grid_of(r)) == title]
        metrics = (C_F, *PROFILES)
        labels = [metric.label.removeprefix("-") for metric in metrics]
        header = ["closure", "Re_tau", *labels, "stress residual", "ms a step", "its share"]
        rows = []
        for r in group:
            re_tau = "-" if r["re_tau"] is None else f"{r['re_tau']:.1f}" + confidence(r, "re_tau")
            residual = "-" if r["total_stress_residual"] is None else f"{100 * r['total_stress_residual']:.2f}"
            errors = [percent(r, key) for key in (metric.name for metric in metrics)]
            cost = [f"{1e3 * r['seconds_per_step']:.1f}", f"{100 * r['closure_fraction']:.0f} %"]
            rows.append([r["closure"], re_tau, *errors, residual, *cost])
        reference = next((r["errors"]["reference"] for r in group if r["errors"]), "no reference")
        times = sorted({f"{r['averaging_time']:.0f}" for r in group if r["averaging_time"]}, key=float)
        made = sorted({f"{r['ranks']} rank(s), {r['machine']}, commit {r['commit']}" for r in group})
        caption = f"**{title[0]}**, {title[1]} points, against {reference}; errors in % (bulk units, ± 95 %)"
        averaged = f", averaged over {', '.join(times)} time units" if times else ""
        parts += [f"{caption}{averaged}; {'; '.join(made)}.", table(header, rows, 1)]
    return "\n\n".join(parts) or "No runs are recorded yet."


def walls(folder: Path) -> str:
    """Channels with modelled walls, judged for y >= 0.1 h: signed error of C_f, the rest in wall units."""
    records = load(folder / "walls.json")
    header = ["case", "points", "closure", "wall model", "h / u_tau", "C_f [%]", "max abs dU+"]
    header += [f"{metric.label} [%]" for metric in PROFILES[1:]]
    rows = []
    for r in records:
        error = 100 * (r["c_f"] / r["reference_values"]["c_f"] - 1)
        departure = r["u_plus_departure"] or {"value": float("nan"), "ci95": float("nan")}
        profiles = [f"{100 * r['errors_plus'][metric.name]:.1f}" for metric in PROFILES[1:]]
        time = r["averaging_time"] * (r["reference_values"]["c_f"] / 2) ** 0.5
        friction = f"{error:+.1f} ± {100 * r['ci95']['c_f']:.1f}"
        apart = f"{departure['value']:.2f} ± {departure['ci95']:.2f}"
        what = [r["case"], grid_of(r), r["closure"], r["wall_model"] or "none"]
        rows.append([*what, f"{time:.1f}", friction, apart, *profiles])
    made = sorted({f"{r['dtype']}, {r['ranks']} rank(s), {r['machine']}, commit {r['commit']}" for r in records})
    return "\n\n".join([table(header, rows, 4), *(f"Made with {m}." for m in made)])


def comparison(file: Path) -> str:
    """Errors of every closure with intervals, words and verdicts, and where they come from."""
    record = json.loads(file.read_text()) | {"provenance": []}  # kept in words, in "made"
    _, _, *lines = markdown(record).splitlines()
    against = record["reference"]["citation"] if record["reference"] else "no reference"
    points = " x ".join(map(str, record["grid"]))
    title = (
        f"**{record['case']}**, {points} points, against {against}; `{record['command']}`, {'; '.join(record['made'])}."
    )
    return "\n".join([title, "", *lines])


def comparisons(folder: Path) -> str:
    """Every case that was compared."""
    return "\n\n".join(comparison(file) for file in sorted((folder / "comparisons").glob("*.json")))


def grids(folder: Path) -> str:
    """One table of all grids and Reynolds numbers on which the same quantities of closures were compared."""
    tables: dict[tuple[str, ...], list[list[str]]] = {}
    made = set()
    for file in sorted((folder / "grids").glob("*.json"), key=_fineness):
        record = json.loads(file.read_text())
        where = file.stem.split("_")
        quantities = [q for q in record["quantities"] if q["unit"] == "%" and q["key"] != "profiles"]
        rows = tables.setdefault(tuple(f"{q['label']} [%]" for q in quantities), [])
        for row in record["rows"]:
            errors = [percent_of((row["errors"] or {}).get(q["key"]), q) for q in quantities]
            marks = [MARKS.get(row["words"].get(q["key"], ""), "") for q in quantities]
            cells_of = [f"{error} {mark}".strip() for error, mark in zip(errors, marks, strict=True)]
            rows.append([*where, row["label"], *(cells_of if row["errors"] else [row["status"]] * len(errors))])
        floors = [significant(q["scale"] * q["floor"], 2) if q["floor"] else "-" for q in quantities]
        if any(q["floor"] for q in quantities):
            rows.append([*where, "*floor*", *floors])
        made.add(f"{record['command']} ({'; '.join(record['made'])})")
    head = ["Re_tau", "modes and cells", "closure"]
    drawn = [table([*head, *labels], rows, 3) for labels, rows in tables.items()]
    return "\n\n".join([*drawn, *(f"- `{m}`" for m in sorted(made))]) or "Not measured yet."


def _fineness(file: Path) -> tuple[int, int]:
    """Of a comparison by the name of its file: its Reynolds number, then its number of cells."""
    re_tau, cells = file.stem.split("_")
    return int(re_tau), math.prod(int(n) for n in cells.split("x"))


def headline(folder: Path) -> str:
    """The comparison that is shown first."""
    return comparison(folder / "comparisons/channel180.json")


def confidence(record: Record, key: str) -> str:
    """The half width of a quantity, nothing where it has none."""
    width = (record["ci95"] or {}).get(key)
    return "" if width is None else f" ± {width:.1f}"


def validation(folder: Path) -> str:
    """The table of claims."""
    records = load(folder / "validation.json")
    rows = [[r["claim"], str(r["required"]), str(r["measured"]), f"`{r['command']}`", r["commit"]] for r in records]
    header = ["claim", "required", "measured", "command", "commit"]
    return table(header, rows, 5) if rows else "No measurements are recorded yet."


def speed(folder: Path) -> str:
    """Every timed configuration and every target; the latest record of a configuration counts."""
    keys = ("flow", "grid", "closure", "ranks", "dtype", "device")
    measured = {str([r[k] for k in keys]): r for r in load(folder / "speed.json")}
    rows = []
    for target in load(folder / "peers.json"):
        record = measured.pop(str([*(target[k] for k in keys[:3]), 1, "float64", "cpu"]), None)
        others = ", ".join(f"{name} {ns}" for name, ns in sorted(target["peers"].items(), key=lambda item: item[1]))
        rows.append(speed_row(target | {"ranks": 1, "dtype": "float64", "device": "cpu"}, record, others))
    rows += [speed_row(record, record, "") for record in measured.values()]
    machines = sorted({r["machine"] for r in load(folder / "speed.json")})
    header = ["flow", "points", "closure", "run as", "required", "measured", "x FFT limit", "x no model", "other codes"]
    return "\n\n".join([table(header, rows, 4), *(f"Measured on {m}." for m in machines)])


def speed_row(what: Record, record: Record | None, others: str) -> list[str]:
    """One row of the table of speed; dashes where nothing was measured."""
    run_as = f"{what['ranks']} rank(s), {what['dtype']}" + ("" if what["device"] == "cpu" else f", {what['device']}")
    found = ["-"] * 3
    if record is not None:
        ratios = [f"{record['fft_limit_ratio']:.2f}", f"{record['relative_cost']:.2f}"]
        found = [f"{record['ns_per_point_per_stage']:.0f}", *ratios]
    return [
        what["flow"],
        grid_of(what),
        what["closure"],
        run_as,
        str(what.get("required", "")),
        *found,
        others,
    ]


def profile(folder: Path) -> str:
    """Milliseconds of the parts of a step, and how much of it the transforms and products of the FFT limit are."""
    records = load(folder / "speed.json")
    parts = sorted({part for r in records for part in r["milliseconds"]})
    rows = []
    for r in records:
        step, times = 1e3 * r["seconds_per_step"], r["milliseconds"]
        found = [f"{times[part]:.1f}" if part in times else "-" for part in parts]
        whole = [f"{step:.1f}", f"{step / r['fft_limit_ratio']:.1f}", f"{r['memory_mib']:.0f}"]
        rows.append([r["flow"], grid_of(r), r["closure"], str(r["ranks"]), *found, *whole])
    header = ["flow", "points", "closure", "ranks", *parts, "step", "FFT limit", "MiB a rank"]
    return table(header, rows, 3)


TABLES: dict[str, Callable[[Path], str]] = {
    "closures": closures,
    "walls": walls,
    "comparisons": comparisons,
    "grids": grids,
    "headline": headline,
    "validation": validation,
    "speed": speed,
    "profile": profile,
}
PAGES = ("README.md", "measured.md", "../wall_modelled_channels.md", "../across_grids.md")
PAGES = (ROOT / "bench/README.md", *((ROOT / "docs/results" / page).resolve() for page in PAGES))


def render(text: str, folder: Path) -> str:
    """`text` with every table that it has markers for made anew."""
    for name, make in TABLES.items():
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        if begin not in text and end not in text:
            continue
        if text.count(begin) != 1 or text.count(end) != 1:
            raise SystemExit(f"the text needs {begin} and {end} once each")
        body = f"{begin}\n{make(folder)}\n{end}"
        text = re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _, body=body: body, text, flags=re.DOTALL)
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module; returns the exit code."""
    parser = argparse.ArgumentParser(description="Results as data, and the tables made of them.")
    commands = parser.add_subparsers(dest="command", required=True)
    gather = commands.add_parser("collect", help="facts of run folders into a JSON list")
    gather.add_argument("runs", nargs="+", type=Path)
    gather.add_argument("--into", type=Path, default=ROOT / "docs/results/closures.json")
    weigh = commands.add_parser("judge", help="reports of solver compare into docs/results/comparisons")
    weigh.add_argument("reports", nargs="+", type=Path)
    weigh.add_argument("--into", type=Path, default=ROOT / "docs/results/comparisons")
    weigh.add_argument("--name", help="of the file, where one case is compared in several ways")
    draw = commands.add_parser("render", help="tables of the pages from docs/results")
    draw.add_argument("--check", action="store_true", help="change nothing; fail where a page and JSON disagree")
    draw.add_argument("--pages", nargs="+", type=Path, default=PAGES)
    draw.add_argument("--results", type=Path, default=ROOT / "docs/results")
    given = parser.parse_args(arguments)
    if given.command == "collect":
        collect(given.runs, given.into)
        return 0
    if given.command == "judge":
        for report in given.reports:
            judge(report, given.into, given.name)
        return 0
    stale = False
    for page in given.pages:
        before = page.read_text(encoding="utf-8")
        after = render(before, given.results)
        if given.check and after != before:
            print(f"{page.name} and docs/results disagree: run python scripts/results.py render", file=sys.stderr)
            stale = True
        elif not given.check:
            page.write_text(after, encoding="utf-8")
    return int(stale)


if __name__ == "__main__":
    sys.exit(main())
