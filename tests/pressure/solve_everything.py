"""What `test_ranks.py` launches: every problem by every solver that is here; the root writes one npz file."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import torch

from solver.grid import Grid
from solver.pressure.krylov import KrylovPressure
from solver.pressure.multigrid import MultigridPressure
from tests.pressure.problems import BALL, PERIODIC, PROBLEMS, Problem, cells, noise

SOLVERS = {"multigrid": lambda p: MultigridPressure(p, 1e-12)}
if importlib.util.find_spec("petsc4py"):
    for preconditioner in ("icc", "gamg", "direct", "multigrid"):
        SOLVERS[f"krylov_{preconditioner}"] = lambda p, name=preconditioner: KrylovPressure(p, name, tolerance=1e-12)
# large enough that ranks keep their own parts of two grids
RUNS = {name: PROBLEMS[name] for name in ("prime", "rods", "parts", "varied", "outlet_y", "plane")} | {
    "large": Problem(Grid(cells(33), cells(38, 1.0, PERIODIC), cells(32)), [BALL])
}


def main(path: str) -> None:
    """Solve, gather, write."""
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    found = {}
    for name, problem in RUNS.items():
        poisson = problem.poisson()
        rhs = noise(poisson)
        chosen = SOLVERS if name == "parts" else {"multigrid": SOLVERS["multigrid"]}
        for solver, make in chosen.items():
            phi = torch.zeros_like(rhs)
            report = make(poisson).solve(rhs, phi)
            found[f"{name}/{solver}"] = poisson.operators.gather(phi)
            found[f"iterations/{name}/{solver}"] = np.array(report.iterations)
        found["ranks"] = np.array(poisson.slabs.size)
    if poisson.slabs.is_root:
        np.savez(path, **found)


if __name__ == "__main__":
    main(sys.argv[1])
