"""Recycling conjugate gradients: plain method, deflation, harvested vectors."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse.linalg

from closures.linear_families.sequences.deflation import recycling_cg
from closures.linear_families.sequences.methods import method
from tests.linear_families.problems import darcy_sequence, inclusions, relative_error

SMALL = 24


def jacobi(system):
    d = system.matrix.diagonal()
    return lambda r: r / d


def test_without_recycling_it_is_the_plain_method():
    system = darcy_sequence(SMALL, 4)[0]
    iterates = []
    scipy.sparse.linalg.cg(system.matrix, system.rhs, rtol=1e-10, callback=lambda x: iterates.append(x.copy()))
    found, kept = recycling_cg(system.matrix, system.rhs, k=0, tolerance=1e-10)
    assert kept is None
    assert abs(found.iterations - len(iterates)) <= 1
    theirs = [np.linalg.norm(system.rhs - system.matrix @ x) / np.linalg.norm(system.rhs) for x in iterates[:40]]
    assert found.history[:40] == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize("preconditioned", [False, True])
def test_solution_is_that_of_a_direct_solve(preconditioned):
    kept = None
    for system in darcy_sequence(SMALL, 4):
        apply = jacobi(system) if preconditioned else None
        found, kept = recycling_cg(system.matrix, system.rhs, kept, precondition=apply, tolerance=1e-12)
        assert found.converged
        assert np.linalg.norm(system.rhs - system.matrix @ found.x) <= 1.01e-12 * np.linalg.norm(system.rhs)
        assert relative_error(found.x, system) < 1e-10


def test_exact_eigenvectors_cut_the_condition_number():
    """Deflating the k smallest of a known spectrum leaves the convergence bound of the rest."""
    rng = np.random.default_rng(65_537)
    q = np.linalg.qr(rng.standard_normal((200, 200)))[0]
    values = np.concatenate([[1e-4, 2e-4, 1e-3], np.linspace(1, 4, 197)])
    a, b = (q * values) @ q.T, rng.standard_normal(200)
    found, _ = recycling_cg(a, b, q[:, :3].T, k=3, tolerance=1e-10)
    rate = (2 - 1) / (2 + 1)  # (sqrt(4) - 1) / (sqrt(4) + 1)
    assert found.converged
    assert found.iterations <= np.log(2 * 2 / 1e-10 * 50) / -np.log(rate) + 2
    assert found.iterations < 0.7 * recycling_cg(a, b, k=0, tolerance=1e-10)[0].iterations


def test_harvested_vectors_are_the_smallest_of_the_preconditioned_operator():
    system = darcy_sequence(SMALL, 4)[0]
    kept = None
    for _ in range(4):
        _, kept = recycling_cg(system.matrix, system.rhs, kept, precondition=jacobi(system), harvest=1000)
    d = system.matrix.diagonal()
    root = 1 / np.sqrt(d)
    vectors = root[:, None] * np.linalg.eigh(root[:, None] * system.matrix.toarray() * root)[1][:, :3]
    q = np.linalg.qr(kept.T)[0]
    vectors /= np.linalg.norm(vectors, axis=0)
    assert np.linalg.norm(vectors - q @ (q.T @ vectors)) < 0.05


def test_recycling_saves_iterations_on_similar_systems():
    kept, recycled, plain = None, [], []
    for system in darcy_sequence(50, 12):
        found, kept = recycling_cg(system.matrix, system.rhs, kept, harvest=1000)
        recycled.append(found.iterations)
        plain.append(recycling_cg(system.matrix, system.rhs, k=0)[0].iterations)
    assert recycled[0] == plain[0]
    assert np.mean(recycled[4:]) < 0.75 * np.mean(plain[4:])


def test_without_harvest_the_vectors_are_kept():
    one, two = darcy_sequence(SMALL, 4)[:2]
    _, kept = recycling_cg(one.matrix, one.rhs)
    found, again = recycling_cg(two.matrix, two.rhs, kept, harvest=0, tolerance=1e-10)
    assert again is kept
    assert relative_error(found.x, two) < 1e-8


def test_few_small_eigenvalues_are_learned_once_and_stay_away():
    """Well-conducting inclusions: one small eigenvalue each; without them the count is that of the smooth problem."""
    systems, carry, steps, learning = inclusions(), None, [], []
    for system in systems:
        found, carry = method("rcg+jacobi").solve(system, carry)
        assert found.converged
        steps.append(found.iterations)
        learning.append(carry[0][1].on)
    plain = [recycling_cg(s.matrix, s.rhs, precondition=jacobi(s), k=0)[0].iterations for s in systems]
    assert abs(steps[0] - plain[0]) <= 2
    assert max(steps[-3:]) < 0.4 * min(plain)
    assert learning[0]
    assert not learning[-1]


def test_an_indefinite_matrix_is_not_reported_as_solved():
    a = np.diag([-1.0, 2.0, 3.0])
    found, _ = recycling_cg(a, np.array([1.0, 0.1, 0.1]), k=0)
    assert not found.converged
