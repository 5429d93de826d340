"""The table of pressure solvers: what each takes with and without bodies, and for fifty systems of a flow in a row.

    python bench/linear.py                                      what is missing: an hour on a busy machine
    python bench/linear.py --problems cylinder --ranks 1
    python bench/linear.py --again                              measured or not
    python bench/linear.py --render                             the page from the numbers, nothing measured

Every cell is `solver bench linear` in a process of its own, with a limit of time, and joins bench/linear.json;
bench/linear.md is written from that file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from closures.pressure_nets.assemble import folders
from solver.cli.benchmarks.pressure_methods import IN_SEQUENCE, LEARNED
from solver.files.folder import write_text

HERE = Path(__file__).parent
KEY = ("problem", "n", "method", "tolerance", "ranks")
EMPTY = "cube"  # no bodies: the direct solver does it, and is no preconditioner but the answer
NOISE = (EMPTY, "sphere", "cube_array")
USUAL = ("multigrid", "cg+direct", "cg+gamg", "cg+icc", "cg+jacobi", "auto")
FAST = ("multigrid", "cg+gamg")  # enough for the large grid
WORDS = """\
# Pressure solvers side by side

Made by `bench/linear.py` from `solver bench linear`, double precision, sweeps not compiled, one thread a rank, on a
machine with two cores that other work shared: trust processor seconds (of rank 0) more than wall seconds, and the
ratios of [decision 0019](../docs/decisions/0019-learned-multigrid.md), taken on a quiet machine, more than both.
Residuals are relative and true. `learned:` is a trained artefact; one that gives up leaves the rest to multigrid.
`direct` is exact, whatever the tolerance, and only for the empty `cube`. The cube on two ranks was measured when both
cores were taken: ranks spin while they wait for each other, and repeats of a cell differed by up to three times in
processor seconds too; those rows say no more than that `direct` comes first.
"""
NOTE = {
    False: "Seconds of one solve from a zero guess, white noise as source, set-up apart: the median of three, or "
    "the first where that took more than ten seconds.",
    True: "Totals over consecutive systems of the case's first steps, each from the last pressure, or with `guesses+` "
    "from the best combination of eight; `recycled+` carries a space of twelve vectors from system to system.",
}


def cells(
    problems: Iterable[str], ranks: Iterable[int]
) -> list[tuple[str, int, tuple[str, ...], tuple[float, ...], int]]:
    """What to measure: problem, size, methods, tolerances, ranks; one process each."""
    learned = tuple(f"{LEARNED}{name}" for name in folders())
    networks, found = tuple(name for name in learned if name != f"{LEARNED}multigrid"), []
    for count in ranks:
        for problem in problems:
            if problem not in NOISE:
                found += [(problem, 0, (m,), (1e-6,), count) for m in IN_SEQUENCE]
                continue
            fast = (*FAST, *(name for name in learned if name not in networks))
            usual, demanding = USUAL, (1e-4, 1e-6, 1e-10)
            if problem == EMPTY:
                fast, usual = ("direct", *fast), tuple(m for m in USUAL if m != "cg+direct")
                demanding = (1e-4,)  # there is nothing for a network to know
            every = dict.fromkeys((*usual, *fast)) if count == 1 else fast
            found += [(problem, 64, (m,), (1e-4, 1e-6, 1e-10), count) for m in every]
            found += [(problem, 64, (m,), demanding, count) for m in networks]
            found += [(problem, 128, (m,), (1e-6, 1e-10), count) for m in fast]
            found += [(problem, 128, (m,), (1e-4,), count) for m in networks if problem != EMPTY]
    return found


def is_known(file: Path, cell: tuple[str, int, tuple[str, ...], tuple[float, ...], int]) -> bool:
    """Whether the file has numbers for all of a cell."""
    problem, size, methods, tolerances, ranks = cell
    rows = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    here = [r for r in rows if "cpu" in r and (not size or r["n"] == size)]
    found = {(r["problem"], r["method"], r["tolerance"], r["ranks"]) for r in here}
    return all((problem, m, t, ranks) in found for m in methods for t in tolerances)


def launch(
    problem: str, size: int, methods: tuple[str, ...], tolerances: tuple[float, ...], ranks: int, patience: float
) -> list[dict[str, Any]]:
    """The rows of one cell; a failure becomes a word in the table."""
    words = [sys.executable, "-m", "solver", "bench", "linear", "--problem", problem, "--device", "cpu"]
    words += ["--size", str(size)] if size else []
    words += [word for m in methods for word in ("--method", m)]
    words += [word for t in tolerances for word in ("--tolerance", str(t))]
    mpi = ["mpirun", "--bind-to", "none", "--oversubscribe", "-n", str(ranks)] if ranks > 1 else []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        try:
            command = [*mpi, *words, "--json", str(file)]
            clean = dict(os.environ)  # without what MPI, started by an import, has put there: mpirun would stop at it
            done = subprocess.run(command, capture_output=True, text=True, timeout=patience, cwd=HERE.parent, env=clean)
            reason = (done.stderr.strip().splitlines() or ["killed"])[-1][:60]
        except subprocess.TimeoutExpired:
            reason = f"> {patience:g} s"
        if file.exists():
            found = json.loads(file.read_text(encoding="utf-8"))
            return [row | {"machine": found["machine"]} for row in found["rows"]]
    row = {"problem": problem, "n": size, "ranks": ranks, "reason": reason}
    return [row | {"method": m, "tolerance": t} for m in methods for t in tolerances]


def table(records: Iterable[dict[str, Any]]) -> str:
    """Markdown: one table for each problem and size, the least processor time of a tolerance and rank count in bold."""
    groups: dict[tuple[str, Any], list[dict[str, Any]]] = {}
    for r in records:
        groups.setdefault((r["problem"], r["n"]), []).append(r)
    lines = [WORDS]
    for (problem, n), rows in sorted(groups.items(), key=lambda item: (str(item[0][0]), str(item[0][1]).zfill(12))):
        systems = next((r["systems"] for r in rows if "systems" in r), None)
        what = f"{systems} systems of cases/{problem}, {n} cells" if systems else f"{problem}, {n}^3"
        lines += [f"## {what}", "", NOTE[systems is not None], ""]
        lines += ["| ranks | tolerance | method | iterations | wall s | processor s | set-up s | residual |"]
        lines += ["| --: | --: | :-- | --: | --: | --: | --: | --: |"]
        best: dict[tuple[int, float], float] = {}
        for r in (r for r in rows if "cpu" in r and r["reason"].startswith("CONVERGED")):
            key = r["ranks"], r["tolerance"]
            best[key] = min(best.get(key, float("inf")), r["cpu"])
        for r in sorted(rows, key=lambda r: (r["ranks"], -r["tolerance"], r.get("cpu", float("inf")))):
            lines.append(_line(r, best.get((r["ranks"], r["tolerance"]))))
        lines.append("")
    return "\n".join(lines)


def _line(r: dict[str, Any], best: float | None) -> str:
    start = f"| {r['ranks']} | {r['tolerance']:.0e} | {r['method']} |"
    if "cpu" not in r or not r["reason"].startswith("CONVERGED"):
        reason = r["reason"].replace("|", "/")
        return f"{start} | {reason} | | | |"
    busy = f"**{r['cpu']:.3g}**" if r["cpu"] == best else f"{r['cpu']:.3g}"
    return f"{start} {r['iterations']} | {r['solve']:.3g} | {busy} | {r['setup']:.2g} | {r['residual']:.1e} |"


def keep(file: Path, rows: list[dict[str, Any]]) -> None:
    """Put rows into the JSON file, in place of older ones, and write the page anew."""
    old = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    new = {tuple(r[k] for k in KEY) for r in rows}
    records = [r for r in old if tuple(r[k] for k in KEY) not in new] + rows
    write_text(file, json.dumps(records, indent=1) + "\n")
    write_text(file.with_suffix(".md"), table(records))


def main() -> None:
    """Run what is asked for and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", default="cylinder,cube,sphere,cube_array")
    parser.add_argument("--ranks", default="1,2")
    parser.add_argument("--patience", type=float, default=600.0, help="seconds after which a cell is given up")
    parser.add_argument("--json", type=Path, default=HERE / "linear.json")
    parser.add_argument("--again", action="store_true", help="measure what is known already too")
    parser.add_argument("--render", action="store_true", help="measure nothing")
    options = parser.parse_args()
    if options.render:
        keep(options.json, [])
        return
    for cell in cells(options.problems.split(","), map(int, options.ranks.split(","))):
        if is_known(options.json, cell) and not options.again:
            continue
        rows = launch(*cell, options.patience)
        keep(options.json, rows)
        for r in rows:
            print(*(r[k] for k in KEY), r.get("iterations", ""), r.get("cpu", r["reason"]), flush=True)


if __name__ == "__main__":
    main()
