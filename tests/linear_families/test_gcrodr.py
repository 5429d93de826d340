"""GCRO-DR: exactness, the identities of the recycled space, and what recycling saves on the published family."""

from __future__ import annotations

import numpy as np
import pytest

from closures.linear_families.sequences.deflation import recycling_cg
from closures.linear_families.sequences.gcrodr import RecycleSpace, gcrodr, smallest_harmonic
from tests.linear_families.problems import convection, darcy_sequence, relative_error, sweep

SMALL = 24
KINDS = ("nonsymmetric", "definite", "indefinite")


def images(a, u: np.ndarray) -> np.ndarray:
    return np.stack([a @ row for row in u])


@pytest.mark.parametrize("system", [convection(), darcy_sequence(SMALL, 4)[0], sweep(24, 1)[0]], ids=KINDS)
def test_residual_and_solution_are_those_of_a_direct_solve(system):
    found, _ = gcrodr(system.matrix, system.rhs, tolerance=1e-12)
    assert found.converged
    residual = np.linalg.norm(system.rhs - system.matrix @ found.x) / np.linalg.norm(system.rhs)
    assert residual <= 1e-12
    assert found.residual == pytest.approx(residual, rel=1e-10)
    assert relative_error(found.x, system) < 1e-9


def test_without_restart_it_is_gmres():
    """As long as the space holds, the residual is the smallest in the Krylov space: a least-squares oracle."""
    system = convection(12)
    found, _ = gcrodr(system.matrix, system.rhs, m=40, k=5, tolerance=1e-30, max_iterations=25)
    krylov = [system.rhs / np.linalg.norm(system.rhs)]
    for step, norm in enumerate(found.history, 1):
        basis = np.linalg.qr(np.stack(krylov, axis=1))[0]
        ab = system.matrix @ basis
        y = np.linalg.lstsq(ab, system.rhs)[0]
        assert norm == pytest.approx(np.linalg.norm(system.rhs - ab @ y) / np.linalg.norm(system.rhs), rel=1e-7), step
        krylov.append(system.matrix @ basis[:, -1])


@pytest.mark.parametrize("preconditioned", [False, True])
def test_recycled_space(preconditioned):
    """``A U = C`` with ``C^T C = I``, over several systems, and the image ``M U`` of the last preconditioner."""
    space = None
    for system in darcy_sequence(SMALL, 4):
        inverse = 1 / system.matrix.diagonal()
        apply = (lambda r, d=inverse: d * r) if preconditioned else None
        found, space = gcrodr(system.matrix, system.rhs, space, precondition=apply, m=20, k=8, tolerance=1e-10)
        assert found.converged
        c = images(system.matrix, space.u)
        assert abs(c @ c.T - np.eye(8)).max() < 1e-11
    if not preconditioned:
        assert space.mu is space.u


def test_image_under_the_preconditioner_is_true_within_a_system():
    system = darcy_sequence(SMALL, 4)[0]
    d = system.matrix.diagonal()
    _, space = gcrodr(system.matrix, system.rhs, precondition=lambda r: r / d, m=20, k=8)
    assert abs(space.mu - d * space.u).max() < 1e-9 * abs(space.mu).max()


def test_space_approximates_the_smallest_eigenvectors():
    system = darcy_sequence(SMALL, 4)[0]
    space = None
    for _ in range(4):
        _, space = gcrodr(system.matrix, system.rhs, space, tolerance=1e-10)
    vectors = np.linalg.eigh(system.matrix.toarray())[1][:, :3]
    q = np.linalg.qr(space.u.T)[0]
    assert np.linalg.norm(vectors - q @ (q.T @ vectors)) < 1e-3


def test_harmonic_ritz_vectors_span_a_real_invariant_space():
    """On the whole space harmonic Ritz vectors are eigenvectors: a rotation keeps both its dimensions."""
    rng = np.random.default_rng(8_191)
    core = np.diag([5.0, 7.0, 9.0, 11.0, 0.3])
    core = np.block([[np.array([[0.1, 0.2], [-0.2, 0.1]]), np.zeros((2, 5))], [np.zeros((5, 2)), core]])
    s = rng.standard_normal((7, 7))
    a = s @ core @ np.linalg.inv(s)
    p = smallest_harmonic(a, np.eye(7), 3)
    assert p is not None
    residual = a @ p - p @ (p.T @ a @ p)
    assert np.linalg.norm(residual) < 1e-10 * np.linalg.norm(a)
    values = np.linalg.eigvals(p.T @ a @ p)
    assert sorted(abs(values)) == pytest.approx([np.hypot(0.1, 0.2)] * 2 + [0.3])


def test_preconditioner_may_change_between_systems():
    """Any nonsingular M gives the solution, and the watched residual is the true one."""
    rng = np.random.default_rng(4_099)
    space = None
    for system in sweep(24, 3):
        d = system.matrix.diagonal() * rng.uniform(0.5, 2.0, system.rhs.size)
        found, space = gcrodr(system.matrix, system.rhs, space, precondition=lambda r, d=d: r / d, tolerance=1e-10)
        assert found.converged
        assert found.history[-1] == pytest.approx(found.residual, rel=1e-2)
        assert relative_error(found.x, system) < 1e-6


def test_the_same_system_again_is_nearly_free():
    system = darcy_sequence(SMALL, 4)[0]
    first, space = gcrodr(system.matrix, system.rhs, m=40, k=20)
    again, _ = gcrodr(system.matrix, system.rhs, space, m=40, k=20)
    assert again.iterations < 0.65 * first.iterations


def test_a_space_of_dependent_vectors_is_left_alone():
    system = darcy_sequence(SMALL, 4)[0]
    u = np.ones((3, system.rhs.size))
    found, _ = gcrodr(system.matrix, system.rhs, RecycleSpace(u, u))
    assert found.converged


def test_zero_right_hand_side_and_an_unreachable_tolerance():
    system = darcy_sequence(SMALL, 4)[0]
    zero, _ = gcrodr(system.matrix, 0 * system.rhs)
    assert zero.converged
    assert not zero.x.any()
    never, _ = gcrodr(system.matrix, system.rhs, tolerance=1e-30)
    assert not never.converged
    assert never.iterations < 2000
    with pytest.raises(ValueError, match="between 0 and m"):
        gcrodr(system.matrix, system.rhs, m=10, k=10)


def test_published_family_iterations():
    """N = 10,000, 1e-8, no preconditioner, (40, 20): recycled and sorted 224, fresh 437, conjugate gradients 414."""
    systems = darcy_sequence()
    space, recycled = None, []
    for system in systems[:15]:
        found, space = gcrodr(system.matrix, system.rhs, space)
        assert found.converged
        recycled.append(found.iterations)
    fresh = [gcrodr(s.matrix, s.rhs)[0].iterations for s in systems[:16:2]]
    plain = [recycling_cg(s.matrix, s.rhs, k=0)[0].iterations for s in systems[:16:2]]
    assert np.mean(recycled[1:]) <= 235
    assert np.mean(fresh) <= 460
    assert np.mean(plain) == pytest.approx(414, rel=0.08)
    assert np.mean(fresh) > 1.7 * np.mean(recycled[1:])
