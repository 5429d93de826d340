"""The pressure solvers that ``solver bench linear`` knows by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from solver.errors import CaseError, FeatureUnavailable
from solver.flow.around_solids import self_tuning
from solver.pressure.direct import DirectSolver
from solver.pressure.guess import ProjectedGuess
from solver.pressure.krylov import KrylovPressure, box_solver
from solver.pressure.learned import LearnedFactory
from solver.pressure.multigrid import MultigridPressure
from solver.pressure.poisson import Poisson
from solver.pressure.recycled import RecycledPressure
from solver.pressure.report import PressureSolver

METHODS = ("direct", "multigrid", "auto", "cg+multigrid", "cg+direct", "cg+gamg", "cg+hypre", "cg+icc", "cg+jacobi")
IN_SEQUENCE = (
    *("box", "multigrid", "auto", "cg+jacobi", "cg+icc", "cg+gamg"),
    *("guesses+box", "guesses+multigrid", "guesses+cg+icc"),
    *("recycled+box", "recycled+multigrid", "recycled+jacobi"),
)
LEARNED = "learned:"  # before the name of an artefact
GUESSES = 8


def make_solver(
    method: str, poisson: Poisson, tolerance: float, learned: LearnedFactory | None = None
) -> PressureSolver:
    """A solver by its name in the table.

    ``guesses+METHOD`` starts from the best combination of eight solutions, ``recycled+PRECONDITIONER`` (multigrid, box
    or jacobi) carries a deflation space from system to system, ``learned:NAME`` uses an artefact that `learned` finds.

    Raises
    ------
    CaseError : the name is unknown, or an artefact does not fit the grid.
    FeatureUnavailable : this machine or problem does not allow it.
    """
    kind, _, rest = method.partition("+")
    if kind == "guesses":
        return ProjectedGuess(make_solver(rest, poisson, tolerance, learned), poisson, GUESSES)
    if kind == "recycled":
        return RecycledPressure(poisson, tolerance, preconditioner=_inverse(rest, poisson))
    if method.startswith(LEARNED):
        if learned is None:
            raise CaseError(f"{method}: nothing here can read artefacts")
        return learned(method.removeprefix(LEARNED), poisson).solver(tolerance)
    if method == "direct":
        if poisson.solids.solid.any():
            raise FeatureUnavailable("the direct solver knows no solids")
        return DirectSolver(poisson.operators)
    if method in ("multigrid", "box"):
        return MultigridPressure(poisson, tolerance, preconditioner=_inverse(method, poisson))
    if method == "auto":
        return self_tuning(poisson, tolerance)
    krylov, _, preconditioner = method.partition("+")
    if preconditioner == "multigrid" and krylov == "cg":
        krylov = "fcg"  # the cycle is in single precision
    return KrylovPressure(poisson, preconditioner, krylov, tolerance)  # type: ignore[arg-type]  # it refuses others


def _inverse(name: str, poisson: Poisson) -> Callable[[Tensor], Tensor] | None:
    """An approximate inverse by name; None stands for the V-cycle that its user makes."""
    if name == "multigrid":
        return None
    if name == "box":
        return box_solver(poisson)
    if name == "jacobi":
        return lambda residual: poisson.stencil.inverse * residual
    raise CaseError(f"preconditioner {name!r}: should be 'multigrid', 'box' or 'jacobi'")


def true_residual(poisson: Poisson, rhs: Tensor, phi: Tensor) -> float:
    """``|b - A phi| / |b|`` from the fields alone."""
    b, product = poisson.source(rhs), poisson.source(poisson.apply(phi))
    sums = poisson.layout.sum(torch.stack([(b - product).square().sum(), b.square().sum()]))
    return float((sums[0] / sums[1]).sqrt())
