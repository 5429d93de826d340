"""Solutions and iteration counts on 1, 2 and 3 ranks."""

from __future__ import annotations

import numpy as np
import pytest

from tests import runs
from tests.pressure.solve_everything import RUNS, SOLVERS

RANKS = (1, 2, 3)

pytestmark = runs.needs_mpirun


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, np.ndarray]]:
    """One launch per number of ranks."""
    return runs.on_ranks(RANKS, "tests.pressure.solve_everything", tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("ranks", RANKS[1:])
def test_same_solutions(results, ranks):
    serial, parallel = results[1], results[ranks]
    fields = [key for key in serial if key.split("/")[0] in RUNS]
    assert len(fields) == len(RUNS) + len(SOLVERS) - 1
    for key in fields:
        size = abs(serial[key]).max()
        assert size > 1e-4
        assert abs(parallel[key] - serial[key]).max() < 1e-10 * size, key


def test_a_network_that_is_not_finite_on_one_rank_ends_petsc_on_all(results):
    if "krylov_learned" not in SOLVERS:
        pytest.skip("petsc4py is not installed")
    for found in results.values():
        assert str(found["failure"]) in ("DIVERGED_NANORINF", "DIVERGED_PC_FAILED")


@pytest.mark.parametrize("ranks", RANKS[1:])
def test_iterations_hardly_depend_on_ranks(results, ranks):
    """The grids coarsen within slabs; blocks of incomplete factors are another matter."""
    keys = [key for key in results[1] if key.startswith("iterations/") and not key.endswith("icc")]
    assert len(keys) > len(RUNS)
    for key in keys:
        assert abs(int(results[ranks][key]) - int(results[1][key])) <= 2, key
