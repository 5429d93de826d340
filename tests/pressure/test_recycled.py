"""The recycling solver: the solution of sparse LU, the eigenvectors it should find, and what the next solve saves."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse.linalg
import torch

from solver.pressure.recycled import RecycledPressure, Space
from solver.pressure.report import PressureSolveFailure
from tests.pressure.problems import PROBLEMS, assembled, exact_solution, noise


def jacobi(poisson):
    return lambda r: poisson.stencil.inverse * r


@pytest.mark.parametrize("name", ["ball", "parts", "one_periodic", "seam"])
@pytest.mark.parametrize("simple", [False, True], ids=["multigrid", "jacobi"])
def test_every_solve_of_a_sequence_is_that_of_sparse_lu(name, simple):
    problem = PROBLEMS[name]
    poisson = problem.poisson()
    solver = RecycledPressure(poisson, 1e-12, preconditioner=jacobi(poisson) if simple else None, lessons=2)
    counts = []
    for seed in (3, 4, 5):
        rhs = noise(poisson, seed)
        phi = torch.zeros_like(rhs)
        counts.append(solver.solve(rhs, phi).iterations)
        exact = exact_solution(problem, rhs.numpy())
        assert abs(phi.numpy() - exact).max() < 1e-9 * abs(exact).max()
    assert counts[2] <= counts[0]
    if simple:
        assert counts[2] < 0.8 * counts[0]


def test_without_a_space_it_is_the_conjugate_gradient_method():
    """With a complete one, a projection."""
    poisson = PROBLEMS["cube"].poisson()
    rhs = noise(poisson)
    phi = torch.zeros_like(rhs)
    plain = RecycledPressure(poisson, 1e-8, preconditioner=jacobi(poisson), lessons=0)
    assert plain.solve(rhs, phi).iterations == plain.solve(rhs, torch.zeros_like(rhs)).iterations > 15
    taught = RecycledPressure(poisson, 1e-8, preconditioner=jacobi(poisson), size=200, window=200)
    taught.solve(rhs, torch.zeros_like(rhs))
    assert taught.solve(rhs, torch.zeros_like(rhs)).iterations <= 1
    assert plain.solve(rhs, phi).iterations <= 1


def test_the_space_holds_the_lowest_eigenvectors():
    """Of D^-1 A, after one long solve; its rows are orthonormal in the norm of A."""
    poisson = PROBLEMS["stretched"].poisson()
    solver = RecycledPressure(poisson, 1e-12, preconditioner=jacobi(poisson), size=10, window=200, lessons=1)
    solver.solve(noise(poisson), torch.zeros_like(noise(poisson)))
    a = assembled(poisson)
    d = a.diagonal()
    values = np.sort(scipy.sparse.linalg.eigsh(a, k=5, M=scipy.sparse.diags_array(d), sigma=-1e-3, which="LM")[0])
    assert abs(values[0]) < 1e-10  # of the constant
    w = solver.space.rows[0][:, poisson.unknowns].numpy()
    energy = w @ (a @ w.T)
    assert abs(energy - np.eye(10)).max() < 1e-6
    image = a @ w.T
    found = scipy.linalg.eigvalsh(image.T @ (image / d[:, None]))
    assert found[:4] == pytest.approx(values[1:], rel=1e-3)


def test_an_empty_space_changes_nothing():
    poisson = PROBLEMS["ball"].poisson()
    space = Space(poisson.layout, 4, 4)
    r = poisson.source(noise(poisson))
    x, before = torch.zeros_like(r), r.clone()
    space.correct(r, x)
    space.settle()
    assert torch.equal(r, before)
    assert not x.any()
    assert torch.equal(space.avoid(r.clone()), r)


def test_failures_have_names():
    poisson = PROBLEMS["ball"].poisson()
    rhs = noise(poisson)
    with pytest.raises(PressureSolveFailure, match="DIVERGED_MAX_IT after 2 iterations"):
        RecycledPressure(poisson, 1e-12, max_iterations=2).solve(rhs, torch.zeros_like(rhs))
    with pytest.raises(PressureSolveFailure, match="DIVERGED_INDEFINITE"):
        RecycledPressure(poisson, preconditioner=torch.neg).solve(rhs, torch.zeros_like(rhs))
    rhs[0, 1, 2, 3] = torch.nan
    with pytest.raises(PressureSolveFailure, match="DIVERGED_NANORINF"):
        RecycledPressure(poisson).solve(rhs, torch.zeros_like(rhs))
