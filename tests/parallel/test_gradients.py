"""Training through the solver does not depend on the number of ranks: derivatives of flows that ranks share."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests import runs
from tests.grids import operators, random_velocity, simulation
from tests.parallel.run_gradients import KINDS, derivative, moved

RANKS = (1, 2, 3)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, np.ndarray]]:
    return runs.on_ranks(RANKS, "tests.parallel.run_gradients", tmp_path_factory.mktemp("gradients"))


@runs.needs_mpirun
@pytest.mark.parametrize("ranks", RANKS[1:])
@pytest.mark.parametrize("name", [*KINDS, "together"])
def test_gradients_are_those_of_one_rank(results, name, ranks):
    """By the velocity at the beginning and by every weight, after steps that are computed again on the way back."""
    alone = {key: f for key, f in results[1].items() if key.startswith(f"{name}/")}
    assert sum("/u" in key for key in alone) == (6 if name == "together" else 3)
    assert any("/w" in key for key in alone) == (name not in ("box_dynamic", "together"))
    for key, expected in alone.items():
        size = abs(expected).max()
        assert size > 1e-9, key
        assert abs(results[ranks][key] - expected).max() <= 1e-12 * size, key


@runs.needs_mpirun
@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.sloped])
def test_gradients_are_the_slopes_of_the_loss(results, name):
    """On two ranks, along a direction in the space of velocities and weights."""
    slope, difference = results[2][f"{name}/slopes"]
    assert abs(slope) > 1e-3
    assert slope == pytest.approx(difference, rel=1e-7)


def test_on_one_rank_nothing_is_tied():
    op = operators("channel")
    flow = simulation(op, random_velocity(op, 141_421), 0.01, 1e-3)
    start = [f.clone().requires_grad_() for f in flow.velocity.coefficients]
    with op.decomposition.communicator.recording(torch.device("cpu")):
        assert op.decomposition.communicator.link is None
    _, gradients = derivative(flow, start, lambda: moved(flow, (start[0], start[1], start[2]), random_velocity(op, 2)))
    assert all(float(g.abs().max()) > 0 for g in gradients)
