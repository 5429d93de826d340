"""Solutions and iteration counts on 1, 2 and 3 ranks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.parallel.test_ranks import ONE_RANK_A_CORE
from tests.pressure.solve_everything import RUNS, SOLVERS

ROOT = Path(__file__).parents[2]
RANKS = (1, 2, 3)

pytestmark = pytest.mark.skipif(shutil.which("mpirun") is None, reason="mpirun is not installed")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, np.ndarray]]:
    """One launch per number of ranks."""
    folder, found = tmp_path_factory.mktemp("ranks"), {}
    for ranks in RANKS:
        path = folder / f"{ranks}.npz"
        program = [sys.executable, "-m", "tests.pressure.solve_everything", str(path)]
        done = subprocess.run(
            ["mpirun", "--oversubscribe", "-n", str(ranks), *program],
            cwd=ROOT,
            env=os.environ | ONE_RANK_A_CORE,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        found[ranks] = dict(np.load(path))
    return found


@pytest.mark.parametrize("ranks", RANKS[1:])
def test_same_solutions(results, ranks):
    serial, parallel = results[1], results[ranks]
    assert int(parallel["ranks"]) == ranks
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
