"""What `test_ranks.py` launches: every problem by every solver that is here; the root writes one npz file."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import torch

from closures.pressure_nets.assemble import Homogeneous
from closures.pressure_nets.directions import ConjugateDirections, NetworkDirection
from solver.grid.grid import Grid
from solver.pressure.krylov import KrylovPressure
from solver.pressure.multigrid import Multigrid, MultigridPressure
from solver.pressure.recycled import RecycledPressure
from solver.pressure.report import PressureSolveFailure
from tests.pressure.artefacts import TUNED, network
from tests.pressure.problems import BALL, PERIODIC, PROBLEMS, Problem, cells, noise

SOLVERS = {
    "multigrid": lambda p: MultigridPressure(p, 1e-12),
    "tuned": lambda p: MultigridPressure(p, 1e-12, preconditioner=Multigrid(p, smoothing=[TUNED])),
    "recycled": lambda p: RecycledPressure(p, 1e-12),
    "learned": lambda p: ConjugateDirections(p, NetworkDirection(p, network()), 1e-12),
}
if importlib.util.find_spec("petsc4py"):
    for preconditioner in ("icc", "gamg", "direct", "multigrid"):
        SOLVERS[f"krylov_{preconditioner}"] = lambda p, name=preconditioner: KrylovPressure(p, name, tolerance=1e-12)
    SOLVERS["krylov_learned"] = lambda p: KrylovPressure(
        p, "learned", tolerance=1e-12, learned=Homogeneous(p, NetworkDirection(p, network()))
    )
# large enough that ranks keep their own parts of two grids
RUNS = {name: PROBLEMS[name] for name in ("prime", "rods", "parts", "one_periodic", "plane")} | {
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
    if "krylov_learned" in SOLVERS:
        found["failure"] = np.array(failure(PROBLEMS["parts"]))
    if poisson.slabs.is_root:
        np.savez(path, **found)


def failure(problem: Problem) -> str:
    """What PETSc calls a network that is not finite on one rank only."""
    poisson = problem.poisson()
    worst = torch.nan if poisson.slabs.is_root else 1.0
    solver = KrylovPressure(poisson, "learned", learned=lambda r: r * worst)
    try:
        return solver.solve(noise(poisson), torch.zeros_like(noise(poisson))).reason
    except PressureSolveFailure as problem_found:
        return problem_found.report.reason


if __name__ == "__main__":
    main(sys.argv[1])
