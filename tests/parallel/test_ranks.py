"""Results do not depend on the number of ranks: 100 steps on 1, 2 and 3 ranks, grids of odd and prime size."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.grids import operators, random_velocity
from tests.parallel.run_grids import FLOWS, SEED

ROOT = Path(__file__).parents[2]
ONE_RANK_A_CORE = {
    "OMP_NUM_THREADS": "1",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "OMPI_MCA_mpi_yield_when_idle": "1",  # ranks may outnumber cores
}
RANKS = (1, 2, 3)

pytestmark = pytest.mark.skipif(shutil.which("mpirun") is None, reason="mpirun is not installed")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, np.ndarray]]:
    """One launch per number of ranks, all grids in each."""
    folder, found = tmp_path_factory.mktemp("ranks"), {}
    for ranks in RANKS:
        path = folder / f"{ranks}.npz"
        command = [
            "mpirun",
            "--oversubscribe",
            "-n",
            str(ranks),
            sys.executable,
            "-m",
            "tests.parallel.run_grids",
            str(path),
        ]
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | ONE_RANK_A_CORE, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stdout + done.stderr
        found[ranks] = dict(np.load(path))
    return found


def test_every_rank_took_part(results):
    assert [int(results[ranks]["ranks"]) for ranks in RANKS] == list(RANKS)


@pytest.mark.parametrize("ranks", RANKS[1:])
@pytest.mark.parametrize("name", FLOWS)
def test_same_fields(results, name, ranks):
    serial, parallel = results[1], results[ranks]
    keys = [key for key in serial if key.startswith(f"{name}/") and not key.endswith("numbers")]
    assert len(keys) == 12  # velocity and its gradient
    for key in keys:
        size = max(abs(serial[k]).max() for k in keys if k[: len(name) + 2] == key[: len(name) + 2])
        assert abs(parallel[key] - serial[key]).max() < 1e-11 * size, key


@pytest.mark.parametrize("ranks", RANKS[1:])
@pytest.mark.parametrize("name", FLOWS)
def test_same_reductions(results, name, ranks):
    np.testing.assert_allclose(results[ranks][f"{name}/numbers"], results[1][f"{name}/numbers"], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", FLOWS)
def test_the_flow_moved_and_stayed_divergence_free(results, name):
    """The comparison is of flows in motion."""
    op = operators(FLOWS[name][0])
    start = op.to_physical(random_velocity(op, SEED)[1]).numpy() * 0.5
    assert abs(results[1][f"{name}/u1"] - start).max() > 1e-2 * abs(start).max()
    assert results[1][f"{name}/numbers"][2] < 1e-12


@pytest.mark.parametrize("ranks", RANKS)
def test_slabs_keep_their_promises(results, ranks):
    promises = {key: bool(kept) for key, kept in results[ranks].items() if key.startswith("promise/")}
    assert len(promises) >= 22
    assert not [key for key, kept in promises.items() if not kept]
