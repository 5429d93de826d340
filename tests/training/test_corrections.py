"""Pairs around a correction: what the solver makes of a frame, and a corrector trained on them, in a run."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from closures.data.windows import TrajectoryFile
from closures.loop.resample import Resampler, network_grid
from closures.training.corrections import CorrectTable, corrections
from closures.training.offline import train
from closures.training.recipe import Recipe
from solver import assembly
from solver.case import load_case
from solver.errors import CaseError
from tests.training.trajectories import les_file

STEP = 0.05
FIXED = f"time.dt={STEP / 2}"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The case and the file; seven initial fields."""
    return les_file(tmp_path_factory.mktemp("corrections"), range(1, 8), frames=7, step=STEP, substeps=2)


def table(case, c_s, **changes):
    closure = f"closure={{name='smagorinsky', c_s={c_s}, damping='none'}}"
    return CorrectTable.model_validate({"case": str(case), "overrides": [closure], "steps": 2} | changes)


def recipe(made, **changes):
    case, file = made
    return Recipe.model_validate(
        {
            "title": "a test",
            "data": {"file": str(file)},
            "operator": {"name": "fno", "width": 6, "modes": (3, 6, 3), "layers": 2, "hidden": 8},
            "correct": table(case, 0.05).model_dump(),
            "optimiser": {"rate": 1e-2, "warm_up": 0.0},
            "loop": {"epochs": 40, "batch": 3, "device": "cpu"},
            "card": {"trained_on": "a smaller LES"},
        }
        | changes
    )


def test_the_solver_that_made_the_data_leaves_nothing_to_correct(made):
    """Two steps of the same model from a stored frame end in the next one; another model's do not."""
    source = TrajectoryFile(made[1])
    own, other = (corrections(table(made[0], c_s), source, 1, range(1, 3)).velocity for c_s in (0.3, 0.05))
    assert own.shape == (12, 2, *source.domain.shape, 3)
    np.testing.assert_array_equal(own[:6, 1], source.read(1, slice(1, 7)))
    change = np.abs(np.diff(source.read(1, slice(None)), axis=0)).max()
    assert np.abs(own[:, 0] - own[:, 1]).max() < 1e-5 * change  # frames are stored in single precision
    assert np.abs(other[:, 0] - other[:, 1]).max() > 1e-2 * change


def test_a_stride_spans_several_frames(made):
    pairs = corrections(table(made[0], 0.3, steps=4), TrajectoryFile(made[1]), 2, range(1))
    assert pairs.shape[0] == 3
    assert pairs.step == pytest.approx(2 * STEP)
    assert np.abs(pairs.velocity[0, 0] - pairs.velocity[0, 1]).max() < 1e-5


def test_a_corrector_is_trained_and_brings_a_run_closer_to_the_data(made, tmp_path):
    """From the first frame of a trajectory that it was not trained on, by the model with the wrong constant."""
    card = train(recipe(made), tmp_path / "out").card
    assert (card.role, card.step, card.interval) == ("corrector", 0.0, pytest.approx(STEP))
    assert card.metrics["fluctuation_error"] < 0.7 * card.metrics["frozen_fluctuation_error"]
    source, wrong = TrajectoryFile(made[1]), "name='smagorinsky', c_s=0.05, damping='none'"
    options = "base_options={c_s=0.05, damping='none'}, base='smagorinsky'"
    closures = wrong, f"name='corrector', artefact='{tmp_path / 'out'}', {options}"
    errors = []
    for closure in closures:
        case, folder = load_case(made[0], (f"closure={{{closure}}}", FIXED, "initial.seed=7"))
        with torch.no_grad():
            simulation = assembly.build(assembly.Source(case, folder, "case"))
            for _ in range(6):
                simulation.step()
            resampler = Resampler(simulation.operators, network_grid(simulation.operators.grid))
            found = resampler.centred(simulation.velocity).movedim(0, -1).numpy()
        errors.append(np.abs(found - source.read(6, slice(3, 4))[0]).mean())
        if "corrector" in closure:
            assert simulation.closure_state["guard"].tolist() == [0, 0, 0]
    assert errors[1] < 0.8 * errors[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": {"steps": 2}}, "[correct] teaches one correction"),
        ({"loss": {"target": "state"}}, "[correct] teaches one correction"),
        (
            {"correct": {"case": "CASE", "overrides": ["grid.x.n=10"]}},
            "its points are 10 x 9 x 8, the data have others",
        ),
    ],
)
def test_what_does_not_fit_is_refused(made, tmp_path, changes, message):
    if "correct" in changes:
        changes = {"correct": changes["correct"] | {"case": str(made[0])}}
    with pytest.raises((CaseError, ValueError)) as refused:
        train(recipe(made, **changes), tmp_path / "out")
    assert message in str(refused.value)
