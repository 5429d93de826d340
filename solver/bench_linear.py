"""Pressure solvers side by side: set-up and solve seconds, iterations, true residual, over methods x problems x sizes.

    solver bench linear --size 64 --size 128 --json linear.json
    mpirun -n 2 solver bench linear --size 128 --method multigrid --method cg+gamg

Sources are white noise, guesses zero. With ``--fuse`` the first solve compiles; it has a column of its own.
``cpu`` is the processor time of a solve on rank 0: the number to trust on a shared machine.
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
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from solver import fusion
from solver.axis import FiniteVolumeAxis, NoSlip, Periodic
from solver.errors import CaseError, FeatureUnavailable
from solver.grid import Grid
from solver.operators import Operators
from solver.parallel import Decomposition, is_root
from solver.pressure.direct import DirectPressure
from solver.pressure.krylov import KrylovPressure
from solver.pressure.multigrid import MultigridPressure
from solver.pressure.poisson import Poisson
from solver.pressure.report import PressureSolveFailure, PressureSolver, SolveReport
from solver.pressure.solids import Box, Shape, Solids, Sphere
from solver.rundir import processor, write_json

SEED = 141_421


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
METHODS = ("direct", "multigrid", "cg+multigrid", "cg+direct", "cg+gamg", "cg+hypre", "cg+icc", "cg+jacobi")
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


class BoxDirect:
    """The direct solver as a `PressureSolver`; only for boxes without solids."""

    def __init__(self, poisson: Poisson) -> None:
        if poisson.solids.solid.any():
            raise FeatureUnavailable("the direct solver knows no solids")
        self.direct = DirectPressure(poisson.operators)

    def solve(self, rhs: Tensor, out: Tensor) -> SolveReport:
        """One exact solve."""
        start = time.perf_counter()
        out.copy_(self.direct.solve(rhs))
        return SolveReport(True, "DIRECT", 1, 0.0, time.perf_counter() - start)


def make_solver(method: str, poisson: Poisson, tolerance: float) -> PressureSolver:
    """A solver by its name in the table.

    Raises
    ------
    CaseError : the name is unknown.
    FeatureUnavailable : this machine or problem does not allow it.
    """
    if method == "direct":
        return BoxDirect(poisson)
    if method == "multigrid":
        return MultigridPressure(poisson, tolerance)
    krylov, _, preconditioner = method.partition("+")
    if preconditioner == "multigrid" and krylov == "cg":
        krylov = "fcg"  # the cycle is in single precision
    return KrylovPressure(poisson, preconditioner, krylov, tolerance)  # type: ignore[arg-type]


def make_problem(name: str, n: int, device: torch.device) -> tuple[Operators, Solids, Tensor]:
    """Operators, solids and a source of noise that does not depend on the number of ranks.

    Raises
    ------
    CaseError : the name is unknown.
    """
    if name not in PROBLEMS:
        raise CaseError(f"problem {name!r}: should be one of {', '.join(PROBLEMS)}")
    end, shapes = PROBLEMS[name]
    grid = Grid(_line(n, end), _line(n, NoSlip()), _line(n, end))
    op = Operators(grid, Decomposition(n, n, False), device, torch.float64)
    rhs = op.scatter(np.random.default_rng(SEED).standard_normal((1, n, n, n)))
    return op, Solids.from_shapes(grid, shapes()), rhs


def true_residual(poisson: Poisson, rhs: Tensor, phi: Tensor) -> float:
    """``|b - A phi| / |b|`` from the fields alone."""
    b, product = poisson.source(rhs), poisson.source(poisson.apply(phi))
    sums = poisson.layout.sum(torch.stack([(b - product).square().sum(), b.square().sum()]))
    return float((sums[0] / sums[1]).sqrt())


def measure(name: str, n: int, method: str, tolerance: float, device: torch.device, repeats: int = 3) -> dict[str, Any]:
    """One row of the table. Set-up: voxels, operator, hierarchy or factors; everything but the grid and the source."""
    op, _, rhs = make_problem(name, n, device)
    row: dict[str, Any] = {"problem": name, "n": n, "method": method, "tolerance": tolerance}
    row["ranks"] = op.decomposition.size
    start = time.perf_counter()
    try:
        poisson = Poisson(op, Solids.from_shapes(op.grid, PROBLEMS[name][1]()))
        solver = make_solver(method, poisson, tolerance)
    except FeatureUnavailable as missing:
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
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - busy)
    row["cpu"] = statistics.median(cpu[1:])
    row |= {"first": seconds[0], "solve": statistics.median(seconds[1:]), "iterations": report.iterations}
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
) -> list[dict[str, Any]]:
    """Measure everything; the root prints the table and writes `json`. Collective."""
    rows = [
        measure(problem, n, method, tolerance, device, repeats)
        for problem in problems
        for n in sizes
        for method in methods
        for tolerance in tolerances
    ]
    if is_root():
        Console(width=160).print(render(rows))
        if json is not None:
            machine = f"{processor()}, {os.cpu_count()} cores"
            about = {"machine": machine, "python": platform.python_version(), "torch": torch.__version__}
            write_json(json, about | {"device": str(device), "fused": fusion.is_enabled(), "rows": rows})
    return rows
