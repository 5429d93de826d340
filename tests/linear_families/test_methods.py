"""Every method by name solves the same systems; wrong names and unfit methods are refused with a remedy."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from closures.linear_families.poisson import Poisson
from closures.linear_families.sequences import petsc
from closures.linear_families.sequences.methods import Method, method, names
from solver.errors import CaseError, FeatureUnavailable
from solver.pressure import petsc_library
from tests import runs
from tests.linear_families.problems import darcy_sequence, needs_petsc, relative_error, sweep

OURS = (
    "direct",
    "direct+guess",
    "cg+fft",
    "cg+fft+guess",
    "fresh",
    "gcrodr",
    "skr",
    "skr+jacobi",
    "skr+fft",
    "rcg",
    "rcg+jacobi",
    "rcg+fft",
)
PETSCS = (
    "cholesky",
    "cg",
    "cg+icc",
    "gamg",
    "gmres",
    "gmres+fft",
    "gmres+ilu",
    "gcrodr+icc",
    "skr+gamg",
    "skr+sor",
    "rcg+icc",
)
INDEFINITE = ("direct", "fresh+fft", "skr+fft", "fresh+fft+guess", pytest.param("gmres+fft", marks=needs_petsc))


def in_turn(name: str, systems, tolerance: float = 1e-9):
    """Solve a sequence; every solution is checked against a direct solve."""
    carry, found = None, []
    for system in systems:
        solved, carry = method(name).solve(system, carry, tolerance)
        assert solved.converged, name
        assert solved.residual <= 1.01 * tolerance
        assert relative_error(solved.x, system) < 1e4 * tolerance
        found.append(solved)
    return found


@pytest.mark.parametrize("name", [*OURS, *(pytest.param(n, marks=needs_petsc) for n in PETSCS)])
def test_definite(name):
    in_turn(name, darcy_sequence(24, 4))


@pytest.mark.parametrize("name", INDEFINITE)
def test_indefinite(name):
    systems = sweep(24, 3)
    assert np.linalg.eigvalsh(systems[0].matrix.toarray()).min() < 0
    assert not systems[0].definite
    in_turn(name, systems)


@needs_petsc
def test_published_iterations_of_gmres():
    """GMRES(40) on the conservative Darcy matrix, n = 10,000, 1e-8: about 1458."""
    found = in_turn("gmres", darcy_sequence()[:2], 1e-8)
    assert np.mean([s.iterations for s in found]) == pytest.approx(1458, rel=0.2)


def test_fast_transforms_make_the_iterations_few_and_independent_of_the_grid():
    few = [in_turn("cg+fft", darcy_sequence(n, 4)[:2], 1e-8)[0].iterations for n in (24, 48)]
    assert max(few) <= 12
    assert abs(few[0] - few[1]) <= 1


def test_recycling_pays_on_an_indefinite_sweep():
    systems = sweep(40, 6)
    fresh = [s.iterations for s in in_turn("fresh+fft", systems)]
    recycled = [s.iterations for s in in_turn("skr+fft", systems)]
    assert recycled[0] == fresh[0]
    assert np.mean(recycled[2:]) < 0.9 * np.mean(fresh[2:])


def test_one_matrix_is_factorised_once():
    family = Poisson((12, 12))
    rng = np.random.default_rng(31_337)
    one, two = (family.system(family.draw(rng)) for _ in range(2))
    assert one.matrix is two.matrix
    _, carry = method("direct").solve(one)
    solved, later = method("direct").solve(two, carry)
    assert later[1] is carry[1]
    assert relative_error(solved.x, two) < 1e-12


def test_names():
    assert method("gcrodr+icc") == Method("gcrodr", "icc")
    assert method("cg+icc+guess") == Method("cg", "icc", guess=True)
    assert all(method(name).name == name for plain in names() for name in (plain, f"{plain}+guess"))
    assert [name for name in ("skr", "rcg+fft", "gcrodr", "cg") if method(name).sorts] == ["skr", "rcg+fft"]
    with pytest.raises(CaseError, match="did you mean 'gcrodr'"):
        method("gcrord")
    with pytest.raises(CaseError, match="no such method"):
        method("direct+icc")


def test_unfit_methods_are_refused():
    with pytest.raises(CaseError, match="needs a definite matrix: use"):
        method("cg+fft").solve(sweep(12, 1)[0])
    plain = darcy_sequence(24, 4)[0]
    without = type(plain)(plain.matrix, plain.rhs)
    with pytest.raises(CaseError, match="no operator for fast transforms"):
        method("cg+fft").solve(without)


def test_missing_petsc_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "petsc4py", None)
    petsc_library._initialised.cache_clear()
    try:
        with pytest.raises(FeatureUnavailable, match="petsc4py is not installed"):
            method("cg+icc").solve(darcy_sequence(24, 4)[0])
    finally:
        petsc_library._initialised.cache_clear()


@needs_petsc
def test_missing_package_is_named():
    if petsc.has_package("mumps"):
        in_turn("mumps", darcy_sequence(24, 4))
    else:
        with pytest.raises(FeatureUnavailable, match="without mumps"):
            method("mumps").solve(darcy_sequence(24, 4)[0])


@needs_petsc
@runs.needs_mpirun
def test_one_rank_may_be_alone_with_petsc():
    """A farm with one batch wakes PETSc on one rank: it must not wait for the others, which never come."""
    code = "from solver.parallel import ranks; from closures.linear_families.sequences.petsc import petsc;"
    code += "print(bool(ranks.is_root() and petsc())); ranks.barrier()"
    process = runs.mpirun(2, "-c", code)
    try:
        out, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0
    assert sorted(out.split()) == ["False", "True"]
