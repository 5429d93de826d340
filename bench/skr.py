"""The honest table of Krylov recycling: seconds and iterations a sample, every method on the same samples.

    python bench/skr.py                                          everything: hours
    python bench/skr.py --cases darcy-2d-1e4 --methods gmres,skr,cg+fft --ranks 1 --samples 10

Every combination runs in a process of its own, with a limit of time, and joins bench/skr.json; bench/skr.md is written
from that file. Seconds are processor seconds of the solver, which runs one thread: on a quiet machine they are wall
clock. They hold the set-up of preconditioners and factorisations; drawing and assembling are left out, sorting is
counted apart. On two ranks both solve at once, and the seconds are divided by two. A method that recycles starts every
rank's share with nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from closures.data.farm import order_of, solve_in_turn
from closures.data.recipe import Recipe, parse_recipe
from solver import parallel
from solver.errors import SolverError
from solver.farm import farm
from solver.linear.methods import method
from solver.machine import prepare_process
from solver.rundir import processor, write_text

HERE = Path(__file__).parent
SEED = 1_618_033
INDEFINITE = {"wave_number": [20.0, 22.0], "medium": "wave_number"}
SQUARES = {"1e4": [100, 100], "4e4": [200, 200], "1e5": [316, 316], "1e6": [1000, 1000]}
CUBES = {"1e4": [22, 22, 22], "1e5": [46, 46, 46], "1e6": [100, 100, 100]}
BLOCKS = {"1e4": [80, 128], "1e5": [240, 384], "1e6": [1000, 1000]}
DEEP_BLOCKS = {"1e5": [40, 64, 40], "1e6": [80, 128, 96]}
ITERATIVE = ("cg", "cg+icc", "gamg", "gmres", "gmres+ilu", "fresh", "gcrodr", "skr", "skr+icc", "rcg", "rcg+icc")
DEFINITE = ("direct", "cholesky", *ITERATIVE)
WITH_BOX = (*DEFINITE, "cg+fft", "rcg+fft")
GENERAL = ("direct", "gmres", "gmres+ilu", "fresh", "skr", "gmres+fft", "fresh+fft", "gcrodr+fft", "skr+fft")


def cases() -> dict[str, tuple[dict[str, Any], tuple[str, ...]]]:
    """Families and sizes: the recipe's family table, and the methods that can solve it."""
    found: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {}
    for dims, shapes in (("2d", SQUARES), ("3d", CUBES)):
        for size, shape in shapes.items():
            found[f"darcy-{dims}-{size}"] = {"kind": "darcy", "shape": shape}, WITH_BOX
            found[f"poisson-{dims}-{size}"] = {"kind": "poisson", "shape": shape}, WITH_BOX
            helmholtz = {"kind": "helmholtz", "shape": shape}
            found[f"helmholtz-{dims}-{size}"] = helmholtz, WITH_BOX
            found[f"indefinite-{dims}-{size}"] = helmholtz | INDEFINITE, GENERAL
            found[f"sweep-{dims}-{size}"] = helmholtz | INDEFINITE | {"media": 1}, GENERAL
    for dims, shapes in (("2d", BLOCKS), ("3d", DEEP_BLOCKS)):
        for size, shape in shapes.items():
            found[f"thermal-{dims}-{size}"] = {"kind": "thermal", "shape": shape}, DEFINITE
    return found


def recipe_of(case: str, name: str, samples: int, tolerance: float) -> Recipe:
    """The recipe that a cell of the table is."""
    data = {
        "title": case,
        "seed": SEED,
        "samples": samples,
        "family": cases()[case][0],
        "solve": {"method": name, "tolerance": tolerance},
    }
    return parse_recipe(data, case)


def measure(case: str, name: str, samples: int, tolerance: float, patience: float) -> dict[str, Any]:
    """One cell, in this process and its ranks: each rank solves `samples` of the path, or as many as time allows."""
    ranks = parallel.world_size()
    recipe = recipe_of(case, name, ranks * samples, tolerance)
    family, chosen = recipe.family.build(), method(name)
    begun = time.perf_counter()
    order = order_of(recipe, family, chosen).tolist()
    sorting = time.perf_counter() - begun
    shares = [order[r * samples : (r + 1) * samples] for r in range(ranks)]
    solved: list[tuple[int, float]] = []

    def share(members: list[int], _: Any) -> list[tuple[int, float]]:
        found: list[tuple[int, float]] = []
        start = time.perf_counter()
        for _, _, solution, seconds in solve_in_turn(recipe, family, chosen, members):
            found.append((solution.iterations, seconds))
            if time.perf_counter() - start > patience:
                break
        return found

    farm(shares, share, solved.extend)
    record = {"case": case, "method": name, "ranks": ranks, "tolerance": tolerance, "unknowns": family.volumes.size}
    if not solved:
        return record
    iterations, seconds = (np.array(column, float) for column in zip(*solved, strict=True))
    warm = seconds[1:] if len(seconds) > 1 else seconds
    return record | {
        "samples": len(solved),
        "iterations": float(iterations.mean()),
        "seconds": float(seconds.mean()) / ranks,
        "seconds_after_the_first": float(warm.mean()) / ranks,
        "sorting_seconds": sorting / len(order),
        "machine": processor(),
    }


def launch(case: str, name: str, ranks: int, options: argparse.Namespace) -> dict[str, Any]:
    """One cell in a process of its own; a failure becomes a word in the table."""
    cell = [sys.executable, str(Path(__file__)), "--cell", case, name, "--samples", str(options.samples)]
    cell += ["--tolerance", str(options.tolerance), "--patience", str(options.patience)]
    mpi = ["mpirun", "--bind-to", "none", "--oversubscribe", "-n", str(ranks)] if ranks > 1 else []
    record = {"case": case, "method": name, "ranks": ranks}
    try:
        done = subprocess.run([*mpi, *cell], capture_output=True, text=True, timeout=3 * options.patience + 30)
    except subprocess.TimeoutExpired:
        return record | {"failure": f"> {3 * options.patience:g} s"}
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    last = (done.stderr.strip().splitlines() or ["killed"])[-1]
    return record | {"failure": "not converged" if "stopped after" in done.stderr else last[:60]}


def table(records: Iterable[dict[str, Any]]) -> str:
    """Markdown: one table a case, the fastest method in bold."""
    by_case: dict[str, dict[str, dict[int, dict[str, Any]]]] = {}
    for r in records:
        by_case.setdefault(r["case"], {}).setdefault(r["method"], {})[r["ranks"]] = r
    lines = ["# Krylov recycling against everything else", "", (__doc__ or "").strip().splitlines()[0], ""]
    lines += [
        "Made by `bench/skr.py`, which says what is counted. Milliseconds and iterations are means over samples, in",
        "bold the least; recycling methods start with nothing, so more samples favour them.",
        "",
    ]
    for case in (c for c in cases() if c in by_case):
        methods = by_case[case]
        one = {name: r[1]["seconds"] for name, r in methods.items() if "seconds" in r.get(1, {})}
        some = next((r for m in methods.values() for r in m.values() if "unknowns" in r), {})
        lines += [f"## {case}", "", f"{some.get('unknowns', '?')} unknowns, tolerance {some.get('tolerance', '?')}"]
        lines += ["", "| method | iterations | ms, 1 rank | ms, 2 ranks | samples |", "| :-- | --: | --: | --: | --: |"]
        for name in sorted(methods, key=lambda n: one.get(n, np.inf)):
            first = methods[name].get(1) or next(iter(methods[name].values()))
            cells = [_milliseconds(methods[name].get(ranks, {})) for ranks in (1, 2)]
            if one and name == min(one, key=lambda n: one[n]):
                cells[0] = f"**{cells[0]}**"
            steps = f"{first['iterations']:.0f}" if "iterations" in first else ""
            lines.append(f"| {name} | {steps} | {cells[0]} | {cells[1]} | {first.get('samples', '')} |")
        lines.append("")
    return "\n".join(lines) + "\n"


def _milliseconds(record: dict[str, Any]) -> str:
    if "failure" in record:
        return str(record["failure"])
    return f"{1e3 * record['seconds']:.3g}" if "seconds" in record else ""


def main() -> None:
    """Run what is asked for and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="all", help="comma-separated names, or a part of one such as 'darcy'")
    parser.add_argument("--methods", default="all", help="comma-separated")
    parser.add_argument("--ranks", default="1,2")
    parser.add_argument("--samples", type=int, default=20, help="a rank")
    parser.add_argument("--tolerance", type=float, default=1e-8)
    parser.add_argument("--patience", type=float, default=60.0, help="seconds after which a cell takes no more samples")
    parser.add_argument("--json", type=Path, default=HERE / "skr.json")
    parser.add_argument("--cell", nargs=2, metavar=("CASE", "METHOD"), help="measure one cell in this process")
    options = parser.parse_args()
    if options.cell:
        prepare_process()
        try:
            case, name = options.cell
            record = measure(case, name, options.samples, options.tolerance, options.patience)
        except SolverError as error:
            print(error, file=sys.stderr)
            sys.exit(error.exit_code)
        if parallel.is_root():
            print(json.dumps(record), flush=True)
        return
    wanted = None if options.methods == "all" else options.methods.split(",")
    for case, (_, methods) in cases().items():
        if options.cases != "all" and not any(part in case for part in options.cases.split(",")):
            continue
        for name in methods if wanted is None else wanted:
            for ranks in map(int, options.ranks.split(",")):
                keep(options.json, launch(case, name, ranks, options))


def keep(file: Path, record: dict[str, Any]) -> None:
    """Put a record into the JSON file, in place of an older one, and write the table anew."""
    key = ("case", "method", "ranks")
    old = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    records = [r for r in old if any(r[k] != record[k] for k in key)] + [record]
    write_text(file, json.dumps(records, indent=1) + "\n")
    write_text(file.with_suffix(".md"), table(records))
    print(*(record[k] for k in key), _milliseconds(record), "ms", record.get("iterations", ""), flush=True)


if __name__ == "__main__":
    main()
