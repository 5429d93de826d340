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
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import skr_page
from scipy.sparse import csr_array, diags_array

from closures.data.farm import parameters_of
from closures.data.linear.darcy import Darcy
from closures.data.linear.family import Family, Parameters
from closures.data.recipe import parse_recipe
from closures.data.sorting import likeness_vectors, path
from solver import parallel
from solver.errors import SolverError
from solver.farm import farm
from solver.linear.methods import Method, method
from solver.linear.system import System
from solver.machine import prepare_process
from solver.rundir import processor, write_text

HERE = Path(__file__).parent
SEED = 1_618_033
INDEFINITE = {"wave_number": [20.0, 22.0], "medium": "wave_number"}
NARROW = INDEFINITE | {"wave_number": [20.0, 20.2], "media": 1}
SQUARES = {"1e4": [100, 100], "4e4": [200, 200], "1e5": [316, 316], "1e6": [1000, 1000]}
CUBES = {"1e4": [22, 22, 22], "1e5": [46, 46, 46], "1e6": [100, 100, 100]}
BLOCKS = {"1e4": [80, 128], "1e5": [240, 384], "1e6": [1000, 1000]}
DEEP_BLOCKS = {"1e5": [40, 64, 40], "1e6": [80, 128, 96]}
POOL = {"1e4": 60, "4e4": 60, "1e5": 24, "1e6": 8}  # samples among which a path is sorted
PATIENCE = {"1e4": 3.0, "4e4": 20.0, "1e5": 4.0, "1e6": 6.0}  # processor seconds, then no further sample
LEARNING = 60.0  # instead, where what is recycled takes some samples to be worth it

WEAK = ("gmres", "gmres+jacobi", "gmres+sor", "gmres+icc", "skr", "skr+jacobi", "skr+sor", "skr+icc", "cg", "cg+fft")
SMALL = ("direct", "cholesky", "cg", "cg+icc", "gamg", "cg+fft", "gmres", "fresh", "gcrodr", "skr", "skr+icc")
SMALL += ("skr+fft", "rcg", "rcg+icc", "rcg+fft", "cg+fft+guess")
MIDDLE = ("direct", "cholesky", "cg+icc", "gamg", "cg+fft", "skr+icc", "rcg+icc", "rcg+fft")
LARGE = ("cg+icc", "gamg", "cg+fft", "rcg+icc", "rcg+fft")
ONE_MATRIX = ("direct", "cholesky", "cg+icc", "gamg", "skr+icc", "rcg+icc", "rcg+gamg", "cg+icc+guess")
ONE_MATRIX += ("direct+guess", "cg+jacobi+guess")
WAVES = (
    "direct",
    "gmres+fft",
    "fresh+fft",
    "fresh+fft(80,40)",
    "gcrodr+fft",
    "skr+fft",
    "fresh+fft+guess",
    "direct+guess",
)
TWO_RANKS = ("direct", "cholesky", "gamg", "cg+icc", "cg+fft", "gmres", "fresh+fft", "skr", "skr+fft", "rcg+icc")
TWO_RANKS += ("cg+icc+guess", "cg+jacobi+guess", "direct+guess", "fresh+fft+guess")
FILL = "not run: its factors would fill more than the 24 GB of this machine"


class Case(NamedTuple):
    """A family of one size: its table in a recipe, methods, and the largest number of samples a rank solves."""

    family: dict[str, Any]
    methods: tuple[str, ...]
    samples: int


def cases() -> dict[str, Case]:
    """All of them, small ones first."""
    found: dict[str, Case] = {}

    def add(name: str, family: dict[str, Any], methods: tuple[str, ...], samples: int) -> None:
        found[name] = Case(family, methods, samples)

    lists = {"1e4": (SMALL, 32), "1e5": (MIDDLE, 8), "1e6": (LARGE, 3)}
    for size, (methods, samples) in lists.items():
        for dims, shape in (("2d", SQUARES[size]), ("3d", CUBES[size])):
            if (dims, size) not in (("3d", "1e4"), ("2d", "1e6")):
                add(f"darcy-{dims}-{size}", {"kind": "darcy", "shape": shape}, methods, samples)
        dims, shape = ("3d", CUBES[size]) if size == "1e6" else ("2d", SQUARES[size])
        add(f"helmholtz-{dims}-{size}", {"kind": "helmholtz", "shape": shape}, methods, samples)
        shorter = ("direct", "cholesky", "cg+icc", "gamg", "cg+fft", "skr+icc", "rcg+icc", "cg+icc+guess")
        shorter = LARGE if size == "1e6" else shorter
        add(f"poisson-{dims}-{size}", {"kind": "poisson", "shape": shape}, shorter, 40 if size == "1e4" else 5)
        blocks = [("2d", BLOCKS[size])] if size != "1e6" else []
        for dims, shape in [*blocks, *([("3d", DEEP_BLOCKS[size])] if size in DEEP_BLOCKS else [])]:
            add(f"thermal-{dims}-{size}", {"kind": "thermal", "shape": shape}, ONE_MATRIX, 2 * samples)
        for dims, shape in (("2d", SQUARES[size]), ("3d", CUBES[size])):
            wave = {"kind": "helmholtz", "shape": shape} | INDEFINITE
            if (dims, size) != ("2d", "1e6"):
                add(f"indefinite-{dims}-{size}", wave, WAVES[:-2], 2 if size == "1e6" else samples)
            if size != "1e6":
                add(f"sweep-{dims}-{size}", wave | {"media": 1}, WAVES, 60)
            if dims == "3d":
                add(f"narrow-{dims}-{size}", wave | NARROW, WAVES, 16)
    for dims, shape in (("2d", SQUARES["1e5"]), ("3d", CUBES["1e5"])):
        methods = ("direct", "cholesky", "cg+icc", "gamg", "cg+fft", "rcg+icc", "rcg+gamg", "skr+icc")
        add(f"inclusions-{dims}-1e5", {"kind": "darcy", "shape": shape}, methods, 12)
    for kind in ("darcy", "released", "helmholtz"):
        for size in ("1e4", "4e4"):
            table = {"kind": "darcy" if kind == "released" else kind, "shape": SQUARES[size]}
            names = WEAK
            if kind == "released":  # not symmetric
                names = tuple(n.replace("icc", "ilu") for n in WEAK if not n.startswith("cg"))
            add(f"weak-{kind}-{size}", table, names, 24 if size == "1e4" else 16)
    add("weak-thermal-1e4", {"kind": "thermal", "shape": BLOCKS["1e4"]}, WEAK[:-1], 24)
    return found


def left_out(case: str, name: str) -> str | None:
    """Why a cell is not run, if it is not."""
    if "1e6" in case and name in ("direct", "cholesky", "direct+guess"):
        return FILL
    if "3d-1e5" in case and name == "cholesky":
        return "not run: fills like direct"
    fills = "3d" in case and "1e4" not in case and name.startswith("direct")
    if fills and not case.startswith(("inclusions", "thermal", "indefinite")):
        return "not run: see inclusions and indefinite"
    if "1e6" in case and name in ("gmres+fft", "gcrodr+fft"):
        return "not run: see 1e5"
    return None


class Released(Darcy):
    """Darcy as the released generator of Wang et al. assembles it: the Laplacian times K at the column node, its lower
    outer diagonal two entries off, which is neither symmetric nor a discretisation of Darcy's law."""

    def system(self, parameters: Parameters) -> System:
        """Not symmetric."""
        n, k = self.volumes.shape[0], parameters["permeability"].ravel()
        side = np.ones(n * n - 1)
        side[n - 1 :: n] = 0
        bands = [4 * k, -side * k[1:], -side * k[:-1], -k[n:], -np.roll(k, 2)[:-n]]
        matrix = csr_array(diags_array(bands, offsets=[0, 1, -1, n, -n]).tocsr())
        matrix.sort_indices()
        return System(matrix, np.ones(n * n), definite=False)


class Inclusions(Darcy):
    """Darcy with sixteen well-conducting balls, 10^4 times the background, at places that all samples share: sixteen
    small eigenvalues of the matrix scaled by its diagonal, far from the rest."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape)
        rng, self.inside = np.random.default_rng(SEED), np.zeros(shape, bool)
        for middle in rng.uniform(0.1, 0.9, (16, len(shape))):
            square = sum((x - c) ** 2 for x, c in zip(self.volumes.centres(), middle, strict=True))
            self.inside |= square < 0.05**2

    def draw(self, rng: np.random.Generator) -> Parameters:
        """K with the balls in it."""
        k = super().draw(rng)["permeability"]
        return {"permeability": np.where(self.inside, 1e4 * k, k)}


def family_of(case: str) -> Family:
    """The family of a case."""
    table = cases()[case].family
    for word, kind in (("released", Released), ("inclusions", Inclusions)):
        if word in case:
            return kind(tuple(table["shape"]))
    return parse_recipe({"title": case, "seed": SEED, "samples": 1, "family": table}, case).family.build()


def named(name: str) -> Method:
    """A method by name, ``fresh+fft(80,40)`` with the sizes of GCRO-DR(80, 40) instead of (40, 20)."""
    plain, _, sizes = name.partition("(")
    if not sizes:
        return method(plain)
    subspace, recycle = map(int, sizes.rstrip(")").split(","))
    return replace(method(plain), subspace=subspace, recycle=recycle)


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
                wanted = [name for name in wanted if name in TWO_RANKS and "weak" not in case]
            missing = [name for name in wanted if (case, name, ranks) not in done and not options.page]
            for record in launch(case, missing, ranks, options.tolerance):
                keep(options.json, record)
    write_text(options.json.with_suffix(".md"), skr_page.page(skr_page.read(options.json)))


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
