"""Flows around bodies on one and two ranks."""

from __future__ import annotations

import numpy as np
import pytest

from tests import runs
from tests.solids.run_flows import FLOWS

RANKS = (1, 2)
pytestmark = runs.needs_mpirun


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, np.ndarray]]:
    """One launch per number of ranks."""
    return runs.on_ranks(RANKS, "tests.solids.run_flows", tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("name", FLOWS)
def test_same_flow(results, name):
    one, two = results[1], results[2]
    keys = [key for key in one if key.startswith(f"{name}/") and not key.endswith("numbers")]
    assert len(keys) == 13
    for key in keys:
        size = max(abs(one[k]).max() for k in keys if k[: len(name) + 2] == key[: len(name) + 2])
        assert abs(two[key] - one[key]).max() < 1e-9 * size, key


@pytest.mark.parametrize("name", FLOWS)
def test_same_forces(results, name):
    one, two = (results[ranks][f"{name}/numbers"] for ranks in RANKS)
    assert abs(one[0]) > 1e-3
    np.testing.assert_allclose(two[:4], one[:4], rtol=0, atol=1e-9 * abs(one[:3]).max())
    assert max(one[4], two[4]) < 1e-9
