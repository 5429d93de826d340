"""Guesses from previous solutions: least residual in their span, exact where the family is a sum of few."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from closures.linear_families.darcy import Darcy
from closures.linear_families.sequences.methods import method
from closures.linear_families.sequences.solutions import Solutions
from closures.linear_families.thermal import Thermal
from tests.linear_families.problems import convection, darcy_sequence, exact, relative_error, sweep


def test_the_first_guess_is_zero():
    x, products = Solutions(3).guess(convection(12))
    assert not x.any()
    assert products == 0


@pytest.mark.parametrize("shared", [True, False])
def test_no_combination_leaves_a_smaller_residual(shared):
    """Against a least-squares solve, for one matrix and for another one at every solve."""
    rng = np.random.default_rng(49_999)
    first = convection(12)
    known, kept = Solutions(3), []
    for step in range(6):
        matrix = first.matrix if shared else convection(12, 30.0 + step).matrix
        system = replace(first, matrix=matrix, rhs=rng.standard_normal(first.rhs.size))
        x, products = known.guess(system)
        if kept:
            span = np.stack(kept[-3:], axis=1)
            y = np.linalg.lstsq(matrix @ span, system.rhs)[0]
            assert x == pytest.approx(span @ y, abs=1e-9)
            assert products == (0 if shared else len(kept[-3:]))
        kept.append(exact(system))
        known.keep(system, kept[-1])
    assert len(known.x) == 3


def test_dependent_solutions_do_no_harm():
    system = darcy_sequence(24, 4)[0]
    known, x = Solutions(4), exact(system)
    for factor in (1.0, 2.0, 1.0 + 1e-15):
        known.keep(system, factor * x)
    found, _ = known.guess(replace(system, rhs=3 * system.rhs))
    assert relative_error(found / 3, system) < 1e-10


def test_two_numbers_make_two_solutions():
    """The thermal family is spanned by two solutions: later samples need only what is left of their tolerance."""
    family, carry, steps = Thermal((20, 16)), None, []
    rng = np.random.default_rng(15_485_863)
    for _ in range(5):
        system = family.system(family.draw(rng))
        found, carry = method("rcg+guess").solve(system, carry, 1e-9)
        assert found.converged
        assert relative_error(found.x, system) < 1e-7
        steps.append(found.iterations)
    assert min(steps[:2]) > 20
    assert max(steps[2:]) <= 3
    assert len(carry[0].x) <= 4


def test_residual_falls_exponentially_along_one_parameter():
    """Systems of one medium, wave numbers in a row: every solution takes at least a third off, whatever is left."""
    systems = sweep(24, 12)
    known, left = Solutions(12), []
    for system in systems[::2]:
        known.keep(system, exact(system))
        middle = systems[5]
        x, _ = known.guess(middle)
        left.append(float(np.linalg.norm(middle.rhs - middle.matrix @ x) / np.linalg.norm(middle.rhs)))
    assert all(size < left[0] * 0.65**more for more, size in enumerate(left[1:], 1))
    assert left[5] < 0.01 * left[0]
    carry = None
    for system in systems:
        found, carry = method("fresh+fft+guess").solve(system, carry, 1e-9)
        assert found.converged
        assert found.residual <= 1.01e-9


def test_a_guess_changes_no_answer_where_nothing_is_alike():
    family, rng, carry = Darcy((16, 16)), np.random.default_rng(32_452_843), None
    for _ in range(3):
        system = family.system(family.draw(rng))
        found, carry = method("cg+fft+guess").solve(system, carry, 1e-10)
        assert relative_error(found.x, system) < 1e-8
        assert found.history[-1] == pytest.approx(found.residual, rel=0.02)
