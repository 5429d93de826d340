"""How often a rank waits for others in a step, and how much it sends: budgets, counted."""

from __future__ import annotations

import numpy as np
import pytest

from tests.grids import GRIDS
from tests.parallel.run_calls import FLOWS, OTHERS
from tests.runs import needs_mpirun, on_ranks

RANKS = 3
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
    return on_ranks((RANKS,), "tests.parallel.run_calls", tmp_path_factory.mktemp("calls"))[RANKS]


@pytest.mark.parametrize("name", FLOWS)
def test_a_rank_waits_no_more_often_than_this(results, name):
    waits, to_neighbours, to_all = results[name].T
    assert waits == pytest.approx(WAITS[name])
    assert (to_neighbours > 0).all() == (not name.startswith("box"))
    assert (to_all > 0).all()


@pytest.mark.parametrize("name", [name for name in FLOWS if not name.startswith("box")])
def test_the_pressure_sends_two_numbers_a_column_instead_of_all_planes(results, name):
    """There and back, in three stages; and the planes of one column: of what transposes sent 2 / planes is left."""
    grid = GRIDS[FLOWS[name][0]]
    cx, ny, cz = grid.coefficient_shape
    to_all = results[name][:, 2]
    parts, number, most = 2, 8, -(-ny // RANKS)
    numbers = 2 * parts * cx * cz + most + 2  # of each slab, as many to it
    back = (RANKS - 1) * (2 * parts * -(-cx * cz // RANKS) + most + 2)
    assert (to_all <= 3 * number * (numbers + back)).all()
    transposes = 3 * number * 2 * parts * cx * cz * ny / RANKS * (1 - 1 / RANKS)
    assert to_all.sum() < 1.2 * RANKS * transposes / (0.5 * ny / RANKS)


@pytest.mark.parametrize("engine", OTHERS)
@pytest.mark.parametrize("name", ["channel_wale", "box"])
def test_other_engines_wait_as_often_and_send_as_much(results, engine, name):
    assert (results[f"{engine}/{name}"] == results[name]).all()
