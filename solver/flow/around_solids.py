"""Flow around solids, and through the open ends of a box: the momentum and the projection that know them."""

from __future__ import annotations

import importlib.util

import numpy as np

from solver.case.solid_tables import PressureTable
from solver.discretisation.calculus import Operators
from solver.discretisation.gradient import VelocityGradient
from solver.errors import CaseError
from solver.flow.momentum import Momentum
from solver.flow.projection import Projection
from solver.pressure.direct import DirectSolver
from solver.pressure.guess import ProjectedGuess
from solver.pressure.krylov import KrylovPressure, Preconditioner, box_solver
from solver.pressure.learned import Learned, LearnedFactory, LearnedPressure
from solver.pressure.multigrid import MultigridPressure
from solver.pressure.poisson import Poisson
from solver.pressure.report import PressureSolver
from solver.pressure.tuning import SelfTuning
from solver.solids.mask import Solids
from solver.solids.outlet import Outlet
from solver.solids.walls import SolidWalls


def pressure_solver(
    table: PressureTable, operators: Operators, solids: Solids | None, learned: LearnedFactory | None = None
) -> tuple[PressureSolver, str]:
    """The solver that ``[pressure]`` names, and the name it goes by; `learned` finds its artefact if it has one."""
    usual = "direct" if solids is None else "box" if 1 in operators.grid.shape else "multigrid"
    chosen = table.solver or usual
    if chosen == "direct":
        return DirectSolver(operators), chosen
    poisson = Poisson(operators, solids)
    if chosen == "auto":
        return self_tuning(poisson, table.tolerance), chosen
    solver: PressureSolver
    found = _learned(table.artefact, poisson, learned) if table.artefact is not None else None
    if chosen == "krylov":
        approximate = found.precondition if found else None
        preconditioner = table.preconditioner or "gamg"
        solver = krylov = KrylovPressure(poisson, preconditioner, table.method, table.tolerance, learned=approximate)
        chosen = f"{krylov.name} ({found.name})" if found else krylov.name
    elif found:
        solver, chosen = LearnedPressure(found.solver(table.tolerance)), f"learned ({found.name})"
    else:
        box = box_solver(poisson) if chosen == "box" else None
        solver = MultigridPressure(poisson, table.tolerance, preconditioner=box, name=chosen)
    return (ProjectedGuess(solver, poisson, table.guesses) if table.guesses else solver), chosen


def _learned(artefact: str, poisson: Poisson, factory: LearnedFactory | None) -> Learned:
    if factory is None:
        raise CaseError(f"[pressure] artefact = '{artefact}': nothing here can read it; set solver = 'multigrid'")
    return factory(artefact, poisson)


def self_tuning(poisson: Poisson, tolerance: float) -> SelfTuning:
    """The arms of ``solver = "auto"``: what is sure, what is often fast, and PETSc's if it is here."""
    arms: dict[str, PressureSolver] = {
        "multigrid": MultigridPressure(poisson, tolerance),
        "box": MultigridPressure(poisson, tolerance, preconditioner=box_solver(poisson), name="box"),
    }
    if importlib.util.find_spec("petsc4py"):
        names: tuple[Preconditioner, ...] = ("gamg", "icc")
        arms |= {f"cg+{name}": KrylovPressure(poisson, name, tolerance=tolerance) for name in names}
    return SelfTuning(arms, poisson.slabs)


def flow_around(
    operators: Operators,
    nu: float,
    solids: Solids | None,
    table: PressureTable,
    learned: LearnedFactory | None = None,
) -> tuple[Momentum, Projection]:
    """Momentum and projection of a flow around solids (None: there are none), through open ends if the grid has such.

    Raises
    ------
    CaseError : solids cut the inflow off from the outflow; an artefact of ``[pressure]`` cannot be used.
    FeatureUnavailable : PETSc is missing.
    """
    walls = SolidWalls(operators, solids or Solids.none(operators.grid))
    outlet = None
    if operators.grid.is_open:
        ends = [set(np.unique(walls.solids.parts[i])) - {0} for i in (0, -1)]
        outlet = Outlet(operators, walls.fluid)
        if ends[0] != ends[1] or len(ends[0]) > 1:
            raise CaseError("[solids] cut the inflow off from the outflow, or a part of them from the rest: open a way")
    solver, name = pressure_solver(table, operators, solids, learned)
    momentum = Momentum(VelocityGradient(operators, walls.factors), nu, walls.inner_slope, outlet)
    return momentum, Projection(operators, solver, name, walls, outlet)
