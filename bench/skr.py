"""The honest table of Krylov recycling: seconds and iterations a sample, every method on the same samples.

    python bench/skr.py                                          everything: an hour; finished cells are kept
    python bench/skr.py --cases darcy-2d-1e4 --methods "gmres;skr;cg+fft" --ranks 1 --again
    python bench/skr.py --page                                   bench/skr.md from bench/skr.json

Every case runs in a process of its own and every cell joins bench/skr.json; bench/skr.md is written from that file by
`skr_page.py`. Seconds are processor seconds of the solver, which runs one thread: on a quiet machine they are wall
clock. They hold the set-up of preconditioners and factorisations; drawing and assembling are left out, sorting is
counted apart. On two ranks both solve at once: the seconds are the slower rank's over all samples. Methods that sort
choose their path among more samples than they solve. A method that recycles starts every rank's share with nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import skr_page
from skr_cases import FAR, LEARNING, PATIENCE, POOL, SEED, cases, family_of, left_out, named

from closures.linear_families.generate import parameters_of
from closures.linear_families.sorting import likeness_vectors, path
from solver.errors import SolverError
from solver.files.folder import processor, write_text
from solver.parallel import ranks as parallel
from solver.parallel.task_farm import farm
from solver.run.machine import prepare_process

HERE = Path(__file__).parent


def measure(case: str, name: str, tolerance: float) -> dict[str, Any]:
    """One cell, in this process and its ranks: each rank solves its part of the path, or as much as time allows."""
    ranks, size = parallel.world_size(), case.rpartition("-")[2]
    family, chosen, samples = family_of(case), named(name), cases()[case].samples
    learns = chosen.guess or (chosen.sorts and "inclusions" in case)
    patience = LEARNING if learns else PATIENCE[size]
    begun = time.process_time()
    order = np.arange(ranks * samples)
    if chosen.sorts:
        drawn = [family.likeness(parameters_of(family, SEED, i)) for i in range(max(order.size, ranks * POOL[size]))]
        order = path(likeness_vectors(drawn, "greedy"), "greedy")
    sorting = time.process_time() - begun
    part = order.size // ranks
    shares = [order[r * part : r * part + samples].tolist() for r in range(ranks)]
    solved: list[list[tuple[int, float, float, float]]] = []

    def share(members: list[int], _: Any) -> list[tuple[int, float, float, float]]:
        found, carry, spent = [], None, 0.0
        for sample in members:
            system = family.system(parameters_of(family, SEED, sample))
            wall, start = time.perf_counter(), time.process_time()
            solution, carry = chosen.solve(system, carry, tolerance)
            seconds, wall = time.process_time() - start, time.perf_counter() - wall
            found.append((solution.iterations, seconds, wall, solution.residual))
            spent += seconds
            if spent > patience:
                break
        return found

    farm(shares, share, solved.append)
    if not parallel.is_root():  # the root holds what all have found
        return {}
    record = {"case": case, "method": name, "ranks": ranks, "tolerance": tolerance, "unknowns": family.volumes.size}
    rows = np.array([row for part_of in solved for row in part_of], float)
    late = np.array([row for part_of in solved for row in part_of[len(part_of) // 2 :]], float)
    slowest, slowest_late = (
        max(sum(row[1] for row in p[first(p) :]) for p in solved) for first in (lambda p: 0, lambda p: len(p) // 2)
    )
    return record | {
        "samples": len(rows),
        "iterations": float(rows[:, 0].mean()),
        "seconds": slowest / len(rows),
        "wall_seconds": float(rows[:, 2].sum()) / len(rows) / ranks,
        "late_iterations": float(late[:, 0].mean()),  # of the second half of every share: recycling is warm
        "late_seconds": slowest_late / len(late),
        "residual": float(rows[:, 3].max()),
        "sorting_seconds": sorting / order.size,
        "machine": processor(),
    }


def launch(case: str, names: list[str], ranks: int, tolerance: float) -> Iterator[dict[str, Any]]:
    """The cells of a case, in a process of their own; a failure becomes a word in the table."""
    common: dict[str, Any] = {"case": case, "ranks": ranks, "tolerance": tolerance}
    reasons = {name: reason for name in names if (reason := left_out(case, name))}
    yield from (common | {"method": name, "failure": reason} for name, reason in reasons.items())
    mpi = ["mpirun", "--bind-to", "none", "--oversubscribe", "-n", str(ranks)] if ranks > 1 else []
    names = [name for name in names if name not in reasons]
    clean = dict(os.environ)  # not what MPI, which this process has started, has put there: mpirun would stop at it
    while names:
        cell = [sys.executable, str(Path(__file__)), "--cell", case, ";".join(names), "--tolerance", str(tolerance)]
        pipe = subprocess.PIPE
        with subprocess.Popen([*mpi, *cell], stdout=pipe, stderr=pipe, text=True, env=clean) as process:
            for line in process.stdout or ():
                yield json.loads(line)
                names.pop(0)
            said = process.stderr.read().strip().splitlines() if process.stderr else []
        if names:  # the one that was running failed: the others get a process of their own
            yield common | {"method": names.pop(0), "failure": _last_words(said)}


def _last_words(said: list[str]) -> str:
    """The error among the last lines of a process; mpirun wraps it in dashes and advice."""
    errors = [line for line in said if line.startswith("solver:") or "Error" in line]
    return (errors or ["it was killed"])[-1][:80]


def main() -> None:
    """Run what is asked for and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="all", help="comma-separated names, or parts of them such as 'darcy'")
    parser.add_argument("--methods", default="all", help="separated by semicolons")
    parser.add_argument("--ranks", default="1,2")
    parser.add_argument("--tolerance", type=float, default=1e-8)
    parser.add_argument("--again", action="store_true", help="also what is in the file already")
    parser.add_argument("--page", action="store_true", help="only write the page")
    parser.add_argument("--json", type=Path, default=HERE / "skr.json")
    parser.add_argument("--cell", nargs=2, metavar=("CASE", "METHODS"), help="measure in this process")
    options = parser.parse_args()
    if options.cell:
        run_cells(options.cell[0], options.cell[1].split(";"), options.tolerance)
        return
    for ranks in map(int, options.ranks.split(",")):
        for case, (_, methods, _) in cases().items():
            if options.cases != "all" and not any(part in case for part in options.cases.split(",")):
                continue
            done = [] if options.again else [key(r) for r in skr_page.read(options.json)]
            wanted = methods if options.methods == "all" else options.methods.split(";")
            if ranks > 1:
                wanted = [name for name in wanted if name in contenders(case, options.json)]
            missing = [name for name in wanted if (case, name, ranks) not in done and not options.page]
            for record in launch(case, missing, ranks, options.tolerance):
                keep(options.json, record)
    write_text(options.json.with_suffix(".md"), skr_page.page(skr_page.read(options.json)))


def contenders(case: str, file: Path) -> set[str]:
    """Who is worth a second rank: solved every sample on one, and took no more than `FAR` times the fastest there."""
    methods = skr_page.by_case(skr_page.read(file)).get(case, {})
    best = skr_page.fastest(methods)
    if best is None or "weak" in case:
        return set()
    alone = {name: by_ranks[1] for name, by_ranks in methods.items() if 1 in by_ranks and skr_page.solved(by_ranks[1])}
    return {name for name, record in alone.items() if skr_page.warm(record) <= FAR * best[1]}


def run_cells(case: str, names: list[str], tolerance: float) -> None:
    """Measure cells and print a record each."""
    prepare_process()
    try:
        for name in names:
            record = measure(case, name, tolerance)
            if parallel.is_root():
                print(json.dumps(record), flush=True)
    except SolverError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


def key(record: dict[str, Any]) -> tuple[str, str, int]:
    """What names a cell."""
    return record["case"], record["method"], record["ranks"]


def keep(file: Path, record: dict[str, Any]) -> None:
    """Put a record into the JSON file, in place of an older one, and write the page anew."""
    records = [r for r in skr_page.read(file) if key(r) != key(record)] + [record]
    write_text(file, json.dumps(records, indent=1) + "\n")
    write_text(file.with_suffix(".md"), skr_page.page(records))
    shown = f"{1e3 * record['seconds']:.3g} ms, {record['iterations']:.0f} iterations" if "seconds" in record else ""
    print(*key(record), shown or record["failure"], flush=True)


if __name__ == "__main__":
    main()
