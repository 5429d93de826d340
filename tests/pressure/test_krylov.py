"""PETSc's solvers against sparse LU; their reports, options and failures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from solver.errors import CaseError, FeatureUnavailable
from solver.pressure import petsc_library
from solver.pressure.krylov import KrylovPressure, check_indices
from solver.pressure.report import PressureSolveFailure
from tests.pressure.problems import PROBLEMS, exact_solution, noise

PRECONDITIONERS = ["none", "jacobi", "icc", "gamg", "direct", "multigrid"]


@pytest.fixture
def petsc():
    """The PETSc module; its options are as before after the test."""
    module = pytest.importorskip("petsc4py.PETSc")
    before = module.Options().getAll()
    yield module
    for name in set(module.Options().getAll()) - set(before):
        module.Options().delValue(name)


def error(problem, phi, rhs) -> float:
    """Largest deviation from sparse LU."""
    exact = exact_solution(problem, rhs.numpy())
    return float(abs(phi.numpy() - exact).max() / abs(exact).max())


@pytest.mark.parametrize("name", PRECONDITIONERS)
@pytest.mark.parametrize("problem", ["ball", "rods", "parts", "one_periodic"])
def test_same_solution_as_sparse_lu(petsc, problem, name):
    poisson = PROBLEMS[problem].poisson()
    rhs = noise(poisson)
    phi = torch.zeros_like(rhs)
    report = KrylovPressure(poisson, name, tolerance=1e-13).solve(rhs, phi)
    assert report.converged
    assert report.reason == "CONVERGED_RTOL"
    assert report.residual < 1e-12
    assert error(PROBLEMS[problem], phi, rhs) < 1e-10


@pytest.mark.parametrize("method", ["cg", "fcg", "gmres"])
@pytest.mark.parametrize("name", ["icc", "multigrid"])
def test_methods(petsc, method, name):
    poisson = PROBLEMS["ball"].poisson()
    rhs = noise(poisson)
    phi = torch.zeros_like(rhs)
    report = KrylovPressure(poisson, name, method, tolerance=1e-12).solve(rhs, phi)
    assert error(PROBLEMS["ball"], phi, rhs) < 1e-10
    assert report.residual < 1e-11
    assert report.iterations < 120


def test_the_direct_preconditioner_is_exact_without_solids(petsc):
    poisson = PROBLEMS["cube"].poisson()
    rhs = noise(poisson)
    assert KrylovPressure(poisson, "direct").solve(rhs, torch.zeros_like(rhs)).iterations == 1


def test_a_good_guess_saves_iterations(petsc):
    poisson = PROBLEMS["ball"].poisson()
    solver, rhs = KrylovPressure(poisson, "icc"), noise(poisson)
    phi = torch.zeros_like(rhs)
    cold = solver.solve(rhs, phi).iterations
    assert solver.solve(rhs * (1 + 1e-5), phi).iterations < 0.8 * cold
    assert solver.solve(torch.zeros_like(rhs), phi).iterations == 0
    assert float(phi.abs().max()) == 0.0


def test_options_have_the_last_word(petsc):
    poisson = PROBLEMS["ball"].poisson()
    petsc.Options().setValue("pressure_ksp_max_it", 2)
    petsc.Options().setValue("pressure_pc_type", "jacobi")
    solver, rhs = KrylovPressure(poisson, "icc"), noise(poisson)
    assert solver.ksp.getPC().getType() == "jacobi"
    with pytest.raises(PressureSolveFailure, match="DIVERGED_MAX_IT after 2 iterations"):
        solver.solve(rhs, torch.zeros_like(rhs))


def test_failures_have_petscs_names(petsc):
    poisson = PROBLEMS["ball"].poisson()
    rhs = noise(poisson)
    with pytest.raises(PressureSolveFailure, match=r"'cg\+jacobi': DIVERGED_MAX_IT after 5 iterations") as caught:
        KrylovPressure(poisson, "jacobi", max_iterations=5).solve(rhs, torch.zeros_like(rhs))
    assert caught.value.report.residual > 1e-8
    rhs[0, 1, 2, 3] = torch.nan
    with pytest.raises(PressureSolveFailure, match="DIVERGED_NANORINF"):
        KrylovPressure(poisson, "jacobi").solve(rhs, torch.zeros_like(rhs))


def test_unknown_names_are_refused(petsc):
    poisson = PROBLEMS["cube"].poisson()
    with pytest.raises(CaseError, match=r"preconditioner = 'amg'.*gamg, hypre"):
        KrylovPressure(poisson, "amg")
    with pytest.raises(CaseError, match="method = 'bicg'"):
        KrylovPressure(poisson, "gamg", "bicg")
    if not petsc.Sys.hasExternalPackage("hypre"):
        with pytest.raises(FeatureUnavailable, match="built without"):
            KrylovPressure(poisson, "hypre")


def test_without_petsc_the_feature_says_so(monkeypatch):
    def missing():
        raise ImportError

    monkeypatch.setattr(petsc_library, "_initialised", missing)
    with pytest.raises(FeatureUnavailable, match=r"petsc4py.*solver = 'multigrid' works without"):
        KrylovPressure(PROBLEMS["cube"].poisson())


def test_more_unknowns_than_petsc_can_number_are_refused_by_name(petsc, monkeypatch):
    check_indices(2**31 - 1, np.int32)
    check_indices(2**31, np.int64)
    with pytest.raises(CaseError, match=r"2147483648 unknowns.*64-bit indices"):
        check_indices(2**31, np.int32)
    poisson = PROBLEMS["ball"].poisson()
    monkeypatch.setattr(petsc, "IntType", np.int8)
    with pytest.raises(CaseError, match=r"\[pressure\] solver = 'krylov'.*numbers \(127\)"):
        KrylovPressure(poisson)
