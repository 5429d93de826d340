"""Learning to relax: the relaxation factor of SSOR by a bandit, on the heat equation of the paper.

    python bench/relaxation.py --side 25 --side 50 --json bench/relaxation.json

Khodak et al. (2024, ICLR, arXiv 2310.02246): ``u_t = k(t) lap u + f`` on the unit square by Crank-Nicolson, 5000 steps;
each step is a conjugate gradient solve with an SSOR preconditioner, from the last solution, to 1e-8 of the source. The
loss of a learner is the number of iterations. Needs PETSc, whose SOR is the preconditioner.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from solver.files.folder import write_text
from solver.pressure import petsc_library
from solver.pressure.bandit import TsallisInf

STEPS, END, TOLERANCE = 5000, 5.0, 1e-8
FIXED = (1.0, 1.3, 1.5, 1.75, 1.95)
ARMS = np.linspace(1.0, 1.95, 20)
PREFIX = "relax_"


def bump(x: Any, y: Any, centre: tuple[float, float], radius: float) -> Any:
    """``exp(1 - 1 / (1 - min(1, r^2 / radius^2)))``."""
    q = np.minimum(((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / radius**2, 1.0)
    inside = q < 1.0
    return np.where(inside, np.exp(1.0 - 1.0 / np.where(inside, 1.0 - q, 1.0)), 0.0)


class Heat:
    """The sequence of systems ``(I - dt/2 k lap) u = (I + dt/2 k lap) u + dt f``, all terms at the half step.

    Parameters
    ----------
    side : intervals a side; (side - 1)^2 unknowns.
    """

    def __init__(self, side: int) -> None:
        self.petsc = petsc = petsc_library.petsc("this comparison needs it")
        n, self.dt = side - 1, END / STEPS
        x = np.arange(1, side) / side
        self.x, self.y = (a.ravel() for a in np.meshgrid(x, x, indexing="ij"))
        self.laplacian = petsc.Mat().createAIJ((n * n, n * n), nnz=5, comm=petsc.COMM_SELF)
        for i in range(n * n):
            row = {i: -4.0}
            row |= {j: 1.0 for j, inside in ((i - 1, i % n > 0), (i + 1, i % n < n - 1)) if inside}
            row |= {j: 1.0 for j in (i - n, i + n) if 0 <= j < n * n}
            self.laplacian.setValues(i, list(row), [v * side**2 for v in row.values()])
        self.laplacian.assemble()
        self.matrix = self.laplacian.duplicate(copy=True)
        self.u, self.b = self.matrix.createVecs()
        self.options = petsc.Options(PREFIX)
        self.options["ksp_type"], self.options["pc_type"] = "cg", "sor"
        self.options["pc_sor_local_symmetric"] = True
        self.options["ksp_norm_type"] = "unpreconditioned"
        self.ksp = petsc.KSP().create(comm=petsc.COMM_SELF)
        self.ksp.setOptionsPrefix(PREFIX)
        self.ksp.setOperators(self.matrix)
        self.ksp.setInitialGuessNonzero(True)
        self.ksp.setTolerances(rtol=TOLERANCE, max_it=100_000)
        self.ksp.setFromOptions()

    def start(self) -> None:
        """The initial temperature."""
        self.u.setArray(bump(self.x, self.y, (0.5, 0.5), 0.25))

    def solve(self, step: int, omega: float) -> int:
        """Take a step; the iterations."""
        petsc, t = self.petsc, (step + 0.5) * self.dt
        k = max(0.1 * np.sin(2 * np.pi * t), -10.0 * np.sin(2 * np.pi * t))
        centre = 0.5 + 0.25 * np.cos(16 * np.pi * t), 0.5 + 0.25 * np.sin(16 * np.pi * t)
        self.laplacian.mult(self.u, self.b)
        self.b.aypx(0.5 * self.dt * k, self.u)
        self.b.setArray(self.b.getArray() + self.dt * 32.0 * bump(self.x, self.y, centre, 0.125))
        self.laplacian.copy(self.matrix, structure=petsc.Mat.Structure.SAME_NONZERO_PATTERN)
        self.matrix.scale(-0.5 * self.dt * k)
        self.matrix.shift(1.0)
        self.options["pc_sor_omega"] = omega
        self.ksp.getPC().setFromOptions()
        self.ksp.setOperators(self.matrix)
        self.ksp.solve(self.b, self.u)
        return int(self.ksp.getIterationNumber())


class Learner:
    """A bandit over `ARMS`; losses are iterations beyond the first over twice their running mean, at most 1."""

    def __init__(self, seed: int) -> None:
        self.bandit, self.total, self.solves = TsallisInf(len(ARMS), seed), 0, 0

    def step(self, heat: Heat, step: int) -> int:
        """Draw, solve, learn; the iterations."""
        arm = self.bandit.draw()
        count = heat.solve(step, float(ARMS[arm]))
        self.total, self.solves = self.total + count - 1, self.solves + 1
        self.bandit.learn(arm, min((count - 1) * self.solves / (2.0 * max(self.total, 1)), 1.0))
        return count


def total(side: int, choose: str) -> dict[str, Any]:
    """Iterations and seconds of a whole run with a fixed factor, or ``learned-SEED``."""
    heat = Heat(side)
    heat.start()
    learner = Learner(int(choose.removeprefix("learned-"))) if choose.startswith("learned") else None
    start, count = time.perf_counter(), 0
    for step in track(range(STEPS), f"n = {(side - 1) ** 2}, {choose}", transient=True):
        count += learner.step(heat, step) if learner else heat.solve(step, float(choose))
    return {"n": (side - 1) ** 2, "omega": choose, "iterations": count, "seconds": time.perf_counter() - start}


def main(
    side: Annotated[list[int] | None, typer.Option(help="intervals a side")] = None,
    seeds: Annotated[int, typer.Option(help="learners")] = 3,
    json_file: Annotated[Path | None, typer.Option("--json", help="write the table to this file")] = None,
) -> None:
    """Total iterations over all steps: fixed factors, then learners."""
    choices = [*map(str, FIXED), *(f"learned-{seed}" for seed in range(1, seeds + 1))]
    rows = [total(n, choose) for n in side or [25, 50] for choose in choices]
    table = Table("unknowns", "omega", "iterations", "seconds")
    for row in rows:
        table.add_row(str(row["n"]), row["omega"], str(row["iterations"]), f"{row['seconds']:.1f}")
    Console().print(table)
    if json_file:
        write_text(json_file, json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
