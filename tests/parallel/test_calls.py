"""How often a rank waits for others in a step, and how much it sends: budgets, counted."""

from __future__ import annotations

import numpy as np
import pytest

from tests.parallel.run_calls import FLOWS
from tests.runs import needs_mpirun, on_ranks

pytestmark = needs_mpirun
# Three stages of one halo and two transposes, which also bring the sum for the bulk velocity, the time step, the
# signals. Besides, by stage, the halo of what a model gives. In a box one exchange to the points and one back, with
# slopes or without.
WAITS = {
    "channel": 11,
    "channel_mass_flux": 11,
    "channel_wale": 14,
    "duct": 11,
    "duct_mass_flux": 11,
    "box": 8,
    "box_wale": 8,
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    return on_ranks((3,), "tests.parallel.run_calls", tmp_path_factory.mktemp("calls"))[3]


@pytest.mark.parametrize("name", FLOWS)
def test_a_rank_waits_no_more_often_than_this(results, name):
    waits, sent = results[name].T
    assert waits == pytest.approx(WAITS[name])
    assert (sent > 0).all()
