"""Changes in a moving frame, from the recipe to the card, and on to a second training."""

from __future__ import annotations

import numpy as np
import pytest

from closures.training.experiment import train
from solver.errors import CaseError
from tests.training.test_offline import file  # noqa: F401  a fixture
from tests.training.trajectories import STEP, small_recipe

SPEED = 2.0  # of the waves in the file


def recipe_of(file, **changes):  # noqa: F811
    loss = {"noise": 0.0, "frame": SPEED} | changes.pop("loss", {})
    return small_recipe(file, loss=loss, loop={"epochs": 1}, **changes)


def test_in_the_frame_of_the_waves_they_only_decay(tmp_path, file):  # noqa: F811
    """By exp(-step / 2): of what changes in a step at rest, 21 % of the fluctuation, 5 % is left to be learned."""
    card = train(recipe_of(file, optimiser={"rate": 1e-12}), tmp_path / "moving").card
    still = train(recipe_of(file, loss={"frame": 0.0}), tmp_path / "still").card
    assert card.metrics["frozen_fluctuation_error"] == still.metrics["frozen_fluctuation_error"] > 0.2
    assert card.scaling.drift == pytest.approx(SPEED * STEP)
    assert still.largest_answer is None
    assert card.largest_answer > 2.0  # what the guard compares is the change at rest, in units of the moving frame
    assert "drift" not in still.scaling.model_dump()
    sizes = np.array(card.scaling.change) / still.scaling.change
    assert sizes == pytest.approx(3 * [(1 - np.exp(-0.5 * STEP)) / abs(1 - np.exp((2j - 0.5) * STEP))], rel=0.02)


def test_a_training_that_begins_with_a_network_keeps_its_frame(tmp_path, file):  # noqa: F811
    train(recipe_of(file), tmp_path / "first")
    begin = {"begin": str(tmp_path / "first"), "epochs": 1}
    with pytest.raises(
        CaseError, match=r"\[loss\] frame: the network in \[loop\] begin sees a field carried on by 0.2"
    ):
        train(small_recipe(file, loop=begin), tmp_path / "other")
    second = small_recipe(file, loop=begin, loss={"frame": SPEED})
    assert train(second, tmp_path / "second").card.scaling.drift == pytest.approx(SPEED * STEP)
