"""Results do not depend on the number of ranks: 100 steps on 1, 2 and 3 ranks, grids of odd and prime size."""

from __future__ import annotations

import numpy as np
import pytest

from solver.analysis.moments import INDEX
from tests import runs
from tests.grids import operators, random_velocity
from tests.parallel.run_grids import FLOWS, SEED

RANKS = (1, 2, 3)

pytestmark = runs.needs_mpirun


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, np.ndarray]]:
    """One launch per number of ranks, all grids in each."""
    return runs.on_ranks(RANKS, "tests.parallel.run_grids", tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("ranks", RANKS[1:])
@pytest.mark.parametrize("name", FLOWS)
def test_same_fields(results, name, ranks):
    serial, parallel = results[1], results[ranks]
    keys = [key for key in serial if key.startswith(f"{name}/") and not key.endswith(("numbers", "moments"))]
    assert len(keys) == 12  # velocity and its gradient
    for key in keys:
        size = max(abs(serial[k]).max() for k in keys if k[: len(name) + 2] == key[: len(name) + 2])
        assert abs(parallel[key] - serial[key]).max() < 1e-11 * size, key


@pytest.mark.parametrize("ranks", RANKS[1:])
def test_same_moments(results, ranks):
    """Every row by its own size: means, stresses, gradients, subgrid work and flux."""
    keys = [key for key in results[1] if key.endswith("moments")]
    assert len(keys) == len([name for name, flow in FLOWS.items() if flow[0].x.is_fourier]) > 3
    for key in keys:
        expected, found = results[1][key], results[ranks][key]
        largest = abs(expected).max(axis=(1, 2))
        assert (abs(found - expected).max(axis=(1, 2)) <= 1e-10 * np.maximum(largest, 1e-3)).all(), key
    channel = results[1]["channel/moments"]
    assert all(abs(channel[INDEX[name]]).max() > 1e-5 for name in ("eps_sgs", "sgs_flux_xy", "nu_t"))


@pytest.mark.parametrize("ranks", RANKS[1:])
def test_a_seed_is_the_same_flow_on_any_number_of_ranks(results, ranks):
    for i in range(3):
        drawn = results[1][f"noise/u{i}"]
        np.testing.assert_allclose(results[ranks][f"noise/u{i}"], drawn, rtol=0, atol=1e-13 * abs(drawn).max())


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


@pytest.mark.parametrize("ranks", RANKS[1:])
def test_flows_together_are_the_same_on_any_number_of_ranks(results, ranks):
    keys = [key for key in results[1] if key.startswith("batch/")]
    assert len(keys) == 3 * 2 * 4
    for key in keys:
        np.testing.assert_allclose(
            results[ranks][key], results[1][key], rtol=0, atol=1e-11 * abs(results[1][key]).max()
        )


@pytest.mark.parametrize("ranks", RANKS)
def test_slabs_keep_their_promises(results, ranks):
    promises = {key: bool(kept) for key, kept in results[ranks].items() if key.startswith("promise/")}
    assert len(promises) >= 22
    assert not [key for key, kept in promises.items() if not kept]
