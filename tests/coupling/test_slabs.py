"""Networks that read a few planes are asked by every rank about its own, and answer as on the whole field."""

from __future__ import annotations

import numpy as np
import pytest

from closures.coupling.resample import network_grid
from tests.coupling.run_slabs import CASES, HALF, LEARNS, THIN
from tests.runs import needs_mpirun, on_ranks

RANKS = (1, 2, 3)
BY_SLABS = tuple(name for name in CASES if name != "thin")
pytestmark = needs_mpirun


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return on_ranks(RANKS, "tests.coupling.run_slabs", tmp_path_factory.mktemp("slabs"))


@pytest.mark.parametrize("ranks", RANKS[1:])
@pytest.mark.parametrize("name", [*BY_SLABS, "thin"])
def test_the_same_change(results, name, ranks):
    """To double precision, so that a stencil which misses a plane shows."""
    for i in range(3):
        one, other = (results[n][f"{name}/change{i}"] for n in (1, ranks))
        assert abs(one).max() > 1e-5
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-13 * max(1.0, abs(one).max()))


@pytest.mark.parametrize("ranks", RANKS[1:])
@pytest.mark.parametrize("name", LEARNS)
def test_the_same_gradient(results, name, ranks):
    one, other = (results[n][f"{name}/gradient"] for n in (1, ranks))
    assert abs(one).max() > 1e-3
    np.testing.assert_allclose(other, one, rtol=0, atol=1e-12 * abs(one).max())


@pytest.mark.parametrize("ranks", RANKS[1:])
@pytest.mark.parametrize("name", HALF)
def test_half_precision_is_sent_as_well(results, name, ranks):
    """Numbers of eight bits, which sums in another order change."""
    for i in range(3):
        one, other, exact = (
            results[n][f"{kind}/change{i}"] for n, kind in ((1, f"{name}, half"), (ranks, f"{name}, half"), (1, name))
        )
        rounded = np.linalg.norm(one - exact)
        assert 0 < rounded < 0.1 * np.linalg.norm(exact)
        assert np.linalg.norm(other - exact) < 2.0 * rounded


@pytest.mark.parametrize("ranks", RANKS)
def test_a_rank_is_shown_its_own_planes(results, ranks):
    """And those that a network asks for besides; where slabs are thinner than what it reads rank 0 is shown all."""
    found = results[ranks]
    for name in BY_SLABS:
        cuts = 0 if ranks == 1 else ranks if name == "local_box" else ranks - 1
        beside = 2 * 2 * cuts if name.startswith("local") else 0
        assert found[f"{name}/shown"].sum() == network_grid(CASES[name][0]).shape[1] + beside
        assert found[f"{name}/shown"].max() - found[f"{name}/shown"].min() <= 1 + beside
    thin = found["thin/shown"].tolist()
    assert thin == ([THIN.shape[1], 0, 0] if ranks == 3 else [4, 3] if ranks == 2 else [7])


@pytest.mark.parametrize("ranks", RANKS[1:])
@pytest.mark.parametrize("name", ["channel", "box", "cells"])
def test_the_same_features_of_a_flow(results, name, ranks):
    one, other = (results[n][f"{name}/features"] for n in (1, ranks))
    np.testing.assert_allclose(other, one, rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("ranks", RANKS)
def test_a_foreign_flow_is_found_before_the_network_is_asked(results, ranks):
    assert results[ranks]["foreign/shown"].sum() == 0
    reasons = set(results[ranks]["foreign/reason"].tolist())
    assert len(reasons) == 1
    assert reasons.pop().startswith("it does not know this flow: ")


@pytest.mark.parametrize("ranks", RANKS)
def test_one_rank_on_which_it_fails_leaves_none_waiting(results, ranks):
    found = results[ranks]["failing/reason"].tolist()
    expected = "it failed: RuntimeError: no memory" if ranks == 1 else "it failed: on another rank"
    assert found == [expected] * ranks
