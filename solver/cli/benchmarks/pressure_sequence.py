"""Pressure solvers on what a flow asks of them: consecutive systems of the first steps of a case, one after the other.

Guesses are those of the time loop: the last pressure times the length of the stage. Methods are judged by totals over
the sequence: what they keep from one system to the next (solutions, deflation spaces, what "auto" finds out) counts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from solver.case.case import load_case
from solver.cli.benchmarks.pressure_methods import make_solver, true_residual
from solver.errors import CaseError, SolverError
from solver.pressure.learned import LearnedFactory
from solver.pressure.poisson import Poisson
from solver.pressure.report import PressureSolveFailure, PressureSolver, SolveReport
from solver.run.build import Source, build

TIGHT = 1e-10  # tolerance of the solves that make the systems


@dataclass(eq=False)
class Recorder:
    """A `PressureSolver` that remembers what it was asked.

    Parameters
    ----------
    solver : answers.
    poisson : its problem.
    sources : right-hand sides.
    scales : what the previous solution was multiplied by to become the guess; 0 if there was none.
    """

    solver: PressureSolver
    poisson: Poisson
    sources: list[Tensor] = field(default_factory=list)
    scales: list[float] = field(default_factory=list)
    previous: float = 0.0

    def solve(self, rhs: Tensor, out: Tensor) -> SolveReport:
        """Solve, and note the source and where the guess came from."""
        guess = self._size(out)
        self.scales.append(guess / self.previous if self.previous > 0 else 0.0)
        self.sources.append(rhs.clone())
        report = self.solver.solve(rhs, out)
        self.previous = self._size(out)
        return report

    def _size(self, phi: Tensor) -> float:
        return float(self.poisson.slabs.max(phi.abs().amax()))


def record(case: Path, systems: int, device: torch.device, overrides: tuple[str, ...] = ()) -> Recorder:
    """The first `systems` systems that the time loop of a case solves (collective).

    Raises
    ------
    CaseError : the case has no iterative pressure solver.
    """
    parsed, folder = load_case(case, (*overrides, f"run.device={device.type}", f"pressure.tolerance={TIGHT}"))
    simulation = build(Source(parsed, folder, case.name))
    projection = simulation.flow.projection
    if projection.solver is None or projection.walls is None:
        raise CaseError(f"{case}: its pressure is solved directly: there is nothing to compare")
    poisson = Poisson(simulation.operators, projection.walls.solids)
    found = projection.solver = Recorder(projection.solver, poisson)
    while len(found.sources) < systems:
        simulation.step()
    del found.sources[systems:], found.scales[systems:]
    return found


def measure_sequence(
    recorded: Recorder, name: str, method: str, tolerance: float, learned: LearnedFactory | None = None
) -> dict[str, Any]:
    """One row of the table: totals over the systems, the worst true residual; set-up apart."""
    poisson = recorded.poisson
    row: dict[str, Any] = {"problem": name, "method": method, "tolerance": tolerance}
    row |= {"n": "x".join(map(str, poisson.grid.shape))}
    row |= {"ranks": poisson.slabs.size, "systems": len(recorded.sources)}
    start = time.perf_counter()
    try:
        solver = make_solver(method, poisson, tolerance, learned)
    except SolverError as missing:
        return row | {"reason": f"not here: {missing}"}
    row |= {"setup": time.perf_counter() - start, "solve": 0.0, "cpu": 0.0, "iterations": 0, "residual": 0.0}
    phi = torch.zeros_like(recorded.sources[0])
    for rhs, scale in zip(recorded.sources, recorded.scales, strict=True):
        phi.mul_(scale)
        start, busy = time.perf_counter(), time.process_time()
        try:
            report = solver.solve(rhs, phi)
        except PressureSolveFailure as failure:
            return row | {"reason": failure.report.reason}
        row["solve"] += time.perf_counter() - start
        row["cpu"] += time.process_time() - busy
        row["iterations"] += report.iterations
        row["residual"] = max(row["residual"], true_residual(poisson, rhs, phi))
    return row | {"reason": report.reason}
