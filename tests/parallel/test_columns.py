"""Slabs that tell each other two numbers a column find the pressure of the whole grid, however thin they are."""

from __future__ import annotations

import pytest

from tests.parallel.run_columns import CELLS
from tests.runs import needs_mpirun, on_ranks

RANKS = 5  # one of them has walls on neither side and neighbours that have none; on thin grids a plane each
pytestmark = needs_mpirun


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return on_ranks((RANKS,), "tests.parallel.run_columns", tmp_path_factory.mktemp("columns"))[RANKS]


@pytest.mark.parametrize("name", CELLS)
def test_the_same_potential_and_velocity(results, name):
    for key in ("potential", "u0", "u1", "u2"):
        one, other = (results[f"{name}/{kind}/{key}"] for kind in ("whole", "slabs"))
        assert abs(other - one).max() <= 1e-12 * max(abs(one).max(), 1.0), key
    assert abs(results[f"{name}/whole/potential"]).max() > 1e-3


@pytest.mark.parametrize("name", CELLS)
def test_nothing_diverges(results, name):
    assert results[f"{name}/slabs/divergence"] < 5 * max(results[f"{name}/whole/divergence"], 1e-14)


@pytest.mark.parametrize("name", CELLS)
def test_a_sum_travels_with_it(results, name):
    assert results[f"{name}/slabs/total"] == RANKS * (RANKS + 1) / 2
