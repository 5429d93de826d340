"""Pressure solvers side by side: set-up and solve seconds, iterations, true residual, over methods x problems x sizes.

    solver bench linear --size 64 --size 128 --json linear.json
    mpirun -n 2 solver bench linear --size 128 --method multigrid --method cg+gamg
    solver bench linear --problem cylinder

Sources are white noise, guesses zero; the problem ``cylinder`` is a sequence of systems instead (`bench_sequence`).
With ``--fuse`` the first solve compiles; it has a column of its own. ``cpu`` is the processor time of a solve on rank
0: the number to trust on a shared machine. Methods called ``learned:NAME`` take a trained artefact.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from solver.cli.benchmarks.pressure_methods import IN_SEQUENCE, LEARNED, METHODS, make_solver, true_residual
from solver.cli.benchmarks.pressure_sequence import measure_sequence, record
from solver.discretisation import fusion
from solver.discretisation.calculus import Operators
from solver.errors import CaseError, SolverError
from solver.files.folder import processor, write_json
from solver.grid.axis import FiniteVolumeAxis, NoSlip, Periodic
from solver.grid.grid import Grid
from solver.parallel.late import wait_for
from solver.parallel.ranks import is_root
from solver.parallel.slabs import Slabs
from solver.pressure.learned import LearnedFactory
from solver.pressure.poisson import Poisson
from solver.pressure.report import PressureSolveFailure
from solver.solids.mask import Solids
from solver.solids.shapes import Box, Shape, Sphere
from solver.terminal import console

SEED = 141_421
LONG = 10.0


def _line(n: int, end: Any) -> FiniteVolumeAxis:
    return FiniteVolumeAxis(np.linspace(0.0, 1.0, n + 1), end, end)


def _cube_array() -> list[Shape]:
    """Sixteen wall-mounted cubes, a quarter of the plane covered."""
    starts = [0.0625 + 0.25 * i for i in range(4)]
    return [Box((x, 0.0, z), (x + 0.125, 0.25, z + 0.125)) for x in starts for z in starts]


PROBLEMS: dict[str, tuple[Any, Callable[[], list[Shape]]]] = {
    "cube": (NoSlip(), list),
    "sphere": (NoSlip(), lambda: [Sphere((0.5, 0.5, 0.5), 0.2)]),
    "cube_array": (Periodic(), _cube_array),
}
CASES = {"cylinder": 50}  # systems of a case's first steps
COLUMNS = (
    "problem",
    "n",
    "method",
    "tolerance",
    "setup",
    "first",
    "solve",
    "cpu",
    "iterations",
    "residual",
    "ranks",
    "reason",
)


def make_problem(name: str, n: int, device: torch.device) -> tuple[Operators, Solids, Tensor]:
    """Operators, solids and a source of noise that does not depend on the number of ranks.

    Raises
    ------
    CaseError : the name is unknown.
    """
    if name not in PROBLEMS:
        raise CaseError(f"problem {name!r}: should be one of {', '.join([*PROBLEMS, *CASES])}")
    end, shapes = PROBLEMS[name]
    grid = Grid(_line(n, end), _line(n, NoSlip()), _line(n, end))
    op = Operators(grid, Slabs(n, n, False), device, torch.float64)
    rhs = op.scatter(np.random.default_rng(SEED).standard_normal((1, n, n, n)))
    return op, Solids.from_shapes(grid, shapes()), rhs


def measure(
    name: str,
    n: int,
    method: str,
    tolerance: float,
    device: torch.device,
    repeats: int = 3,
    learned: LearnedFactory | None = None,
) -> dict[str, Any]:
    """One row of the table. Set-up: voxels, operator, hierarchy or factors; everything but the grid and the source.

    The median of `repeats` solves after a first one; a solve of more than `LONG` seconds is not repeated.
    """
    op, _, rhs = make_problem(name, n, device)
    row: dict[str, Any] = {"problem": name, "n": n, "method": method, "tolerance": tolerance}
    row["ranks"] = op.decomposition.size
    start = time.perf_counter()
    try:
        poisson = Poisson(op, Solids.from_shapes(op.grid, PROBLEMS[name][1]()))
        solver = make_solver(method, poisson, tolerance, learned)
    except SolverError as missing:
        return row | {"reason": f"not here: {missing}"}
    row["setup"] = time.perf_counter() - start
    seconds, cpu, phi = [], [], torch.zeros_like(rhs)
    for _ in range(repeats + 1):
        phi.zero_()
        start, busy = time.perf_counter(), time.process_time()
        try:
            report = solver.solve(rhs, phi)
        except PressureSolveFailure as failure:
            report = failure.report
        wait_for(device)
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - busy)
        if op.decomposition.agree(seconds[-1] > LONG):
            break
    row |= {"first": seconds[0], "solve": statistics.median(seconds[1:] or seconds), "iterations": report.iterations}
    row["cpu"] = statistics.median(cpu[1:] or cpu)
    return row | {"residual": true_residual(poisson, rhs, phi), "reason": report.reason}


def render(rows: Sequence[dict[str, Any]]) -> Table:
    """The rows as a table."""
    table = Table(title="pressure solvers: seconds, iterations, true relative residual")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in ("problem", "method", "reason") else "right")
    for row in rows:
        cells = []
        for column in COLUMNS:
            value = row.get(column, "")
            small = column in ("residual", "tolerance")
            cells.append(
                f"{value:.1e}" if small and value else f"{value:.3f}" if isinstance(value, float) else str(value)
            )
        table.add_row(*map(escape, cells))
    return table


def run(
    problems: Sequence[str],
    sizes: Sequence[int],
    methods: Sequence[str],
    tolerances: Sequence[float],
    device: torch.device,
    repeats: int = 3,
    json: Path | None = None,
    learned: LearnedFactory | None = None,
    artefacts: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Measure everything; the root prints the table and writes `json`. Collective.

    Without `methods`, those that suit a problem, and ``learned:NAME`` for each of the `artefacts` that `learned` finds.
    """
    trained, rows = [f"{LEARNED}{name}" for name in artefacts], []
    for problem in (p for p in problems if p not in CASES):
        rows += [
            measure(problem, n, method, tolerance, device, repeats, learned)
            for n in sizes
            for method in methods or [*METHODS, *trained]
            for tolerance in tolerances
        ]
    for problem in (p for p in problems if p in CASES):
        recorded = record(Path("cases") / problem, CASES[problem], device)
        rows += [
            measure_sequence(recorded, problem, method, tolerance, learned)
            for method in methods or [*IN_SEQUENCE, *trained]
            for tolerance in tolerances
        ]
    if is_root():
        out = console()
        out.width = max(out.width, 160)
        out.print(render(rows))
        if json is not None:
            machine = f"{processor()}, {os.cpu_count()} cores"
            about = {"machine": machine, "python": platform.python_version(), "torch": torch.__version__}
            write_json(json, about | {"device": str(device), "fused": fusion.is_enabled(), "rows": rows})
    return rows
