"""Pairs around a correction: what the solver makes of a frame, and a corrector trained on them, in a run."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from closures.coupling.frames import Trajectory
from closures.coupling.resample import Resampler, network_grid
from closures.data.windows import TrajectoryFiles
from closures.operators import build
from closures.operators.predictor import Predictor, Scaling
from closures.training import offline
from closures.training.corrections import CorrectTable, StoredFrames, arrivals, corrections, leg_of
from closures.training.experiment import train
from closures.training.own_les import draw
from closures.training.path_loss import PathLoss
from closures.training.processes import ProcessGroup
from closures.training.recipe import Recipe
from solver.case.case import load_case
from solver.errors import CaseError, RunFolderError
from solver.run import build as assembly
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


def made_pairs(correct, *frames):
    """The pairs of these frames."""
    return corrections(StoredFrames(*frames), arrivals(correct, StoredFrames(*frames)))


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
    source = TrajectoryFiles(made[1])
    own, other = (made_pairs(table(made[0], c_s), source, 1, 1, range(1, 3)).velocity for c_s in (0.3, 0.05))
    assert own.shape == (12, 2, *source.domain.shape, 3)
    np.testing.assert_array_equal(own[:6, 1], source.read(1, slice(1, 7)))
    change = np.abs(np.diff(source.read(1, slice(None)), axis=0)).max()
    assert np.abs(own[:, 0] - own[:, 1]).max() < 1e-5 * change  # frames are stored in single precision
    assert np.abs(other[:, 0] - other[:, 1]).max() > 1e-2 * change


@pytest.mark.parametrize(("apart", "count"), [(1, 5), (2, 3), (3, 2)])
def test_a_stride_spans_several_frames(made, apart, count):
    pairs = made_pairs(table(made[0], 0.3, steps=4), TrajectoryFiles(made[1]), 2, apart, range(1))
    assert pairs.shape[0] == count
    assert pairs.step == pytest.approx(2 * STEP)
    assert np.abs(pairs.velocity[0, 0] - pairs.velocity[0, 1]).max() < 1e-5


def test_what_is_ahead_is_left_to_the_network(made):
    """The solver stops a frame before the answer: there the same model finds the stored one."""
    source = TrajectoryFiles(made[1])
    pairs = made_pairs(table(made[0], 0.3, ahead=STEP), source, 2, 1, range(1)).velocity
    assert len(pairs) == 5
    between, answers = source.read(0, slice(1, 6)), source.read(0, slice(2, 7))
    np.testing.assert_array_equal(pairs[:, 1], answers)
    assert np.abs(pairs[:, 0] - between).max() < 1e-5 < 1e-2 * np.abs(answers - between).max()


def distance_after_three_steps(made, closure):
    """From a trajectory that no network was trained on, of a run that begins where it does; and the run."""
    case, folder = load_case(made[0], (f"closure={{{closure}}}", FIXED, "initial.seed=7"))
    with torch.no_grad():
        simulation = assembly.build(assembly.Source(case, folder, "case"))
        for _ in range(6):
            simulation.step()
        resampler = Resampler(simulation.operators, network_grid(simulation.operators.grid))
        found = resampler.centred(simulation.velocity).movedim(0, -1).numpy()
    return np.abs(found - TrajectoryFiles(made[1]).read(6, slice(3, 4))[0]).mean(), simulation


LOOP = {"epochs": 14, "batch": 2, "device": "cpu"}
TURNS = {"loss": {"kind": "projected_l2", "steps": 2}, "loop": LOOP}


@pytest.mark.parametrize("changes", [{}, TURNS], ids=["once", "in turns"])
def test_a_corrector_is_trained_and_brings_a_run_closer_to_the_data(made, tmp_path, changes):
    """By the model with the wrong constant: alone beforehand, or in turns with the network."""
    if changes:
        changes = changes | {"data": {"file": str(made[1]), "apart": 3}}
    card = train(recipe(made, **changes), tmp_path / "out").card
    assert (card.role, card.step, card.interval) == ("corrector", 0.0, pytest.approx(STEP))
    assert card.solver_step == pytest.approx(STEP / 2)
    assert card.largest_answer > 0
    if not changes:
        assert card.metrics["fluctuation_error"] < 0.7 * card.metrics["frozen_fluctuation_error"]
    wrong, _ = distance_after_three_steps(made, "name='smagorinsky', c_s=0.05, damping='none'")
    options = "base_options={c_s=0.05, damping='none'}, base='smagorinsky'"
    right, run = distance_after_three_steps(made, f"name='corrector', artefact='{tmp_path / 'out'}', {options}")
    assert run.closure_state["guard"].tolist() == [0, 0, 0]
    assert right < 0.8 * wrong


def test_in_turns_the_solver_that_made_the_data_needs_no_correction(made):
    """A network that changes nothing: the loss is that of single precision; another model's is not."""
    source = TrajectoryFiles(made[1])
    units = Scaling(target="increment", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), change=(1.0, 1.0, 1.0))
    nothing = build("differential", width=2, layers=1, periodic=source.domain.periodic)
    torch.nn.init.zeros_(nothing.project.bias)  # its weights are zero to begin with
    window, found = torch.from_numpy(source.read(1, slice(0, 4))).movedim(-1, 1), []
    for c_s in (0.3, 0.05):
        head = Trajectory(Predictor(nothing, units), leg_of(table(made[0], c_s), STEP), steps=2)
        with torch.no_grad():
            found.append(float(PathLoss(head, None, 0.0, 1.0).loss(window[0], window)))
    assert found[0] < 1e-5 < 1e-2 * found[1]


def test_a_surrogate_in_turns_with_the_solver_is_trained_as_it_runs(made, tmp_path):
    """The solver for a frame, the network for the next one: so the card says, and so a run does it."""
    source = TrajectoryFiles(made[1])
    taught = recipe(
        made,
        data={"file": str(made[1]), "stride": 2},
        operator={"name": "differential", "width": 6, "layers": 2, "lengths": (0.4, 0.1, 0.3), "gate": "tanh"}
        | {"periodic": source.domain.periodic},
        correct=table(made[0], 0.05, ahead=STEP).model_dump(),
        loss={"kind": "projected_l2"},
        loop=LOOP,
    )
    card = train(taught, tmp_path).card
    assert (card.role, card.start) == ("surrogate", source.start)
    assert (card.step, card.interval) == (pytest.approx(STEP), pytest.approx(2 * STEP))
    assert card.solver_step == pytest.approx(STEP / 2)
    assert card.metrics["fluctuation_error"] < 0.5 * card.metrics["frozen_fluctuation_error"]
    options = "base_options={c_s=0.05, damping='none'}, base='smagorinsky'"
    acts = f"closure={{name='surrogate', artefact='{tmp_path}', start=0, {options}}}"
    case, folder = load_case(made[0], (acts, FIXED, "initial.seed=7"))
    with torch.no_grad():
        simulation, times = assembly.build(assembly.Source(case, folder, "case")), []
        for _ in range(6):
            simulation.step()
            times.append(simulation.t)
    assert times == pytest.approx([n * STEP for n in (1, 1.5, 2, 3, 3.5, 4)])
    assert simulation.closure_state["guard"].tolist() == [0, 0, 0]


def test_where_the_solver_arrives_is_worked_out_once(made, tmp_path, monkeypatch):
    """In turns, for the frames to train on alone; taken up again, not at all; of another case, refused."""
    changes = TURNS | {"data": {"file": str(made[1]), "apart": 3}, "loop": LOOP | {"epochs": 1}}
    train(recipe(made, **changes), tmp_path)
    assert [path.name for path in tmp_path.glob("pairs*")] == ["pairs.safetensors"]

    def again(*_):
        raise AssertionError("worked out again")

    monkeypatch.setattr(offline, "arrivals", again)
    train(recipe(made, **changes), tmp_path)
    with pytest.raises(RunFolderError, match=r"pairs\.safetensors: fields of another case"):
        train(recipe(made, **(changes | {"correct": table(made[0], 0.06).model_dump()})), tmp_path)


def test_labels_may_be_runs_of_the_solver(made, tmp_path):
    """Those that made the file, from the same seeds: the same frames, and the same training."""
    case, file = made
    runs = ["closure={name='smagorinsky', c_s=0.3, damping='none'}", "initial.seed=1"]
    fields = {"overrides": runs, "trajectories": 7, "frames": 7, "interval": STEP, "steps": 2}
    short = {"epochs": 2, "batch": 3, "device": "cpu"}
    drawing = recipe(made, data={}, correct=table(case, 0.05, fields=fields).model_dump(), loop=short)
    drawn = draw(drawing.drawn, "cpu", tmp_path / "drawn", ProcessGroup(0, 1, torch.device("cpu")))
    np.testing.assert_array_equal(drawn.velocity, TrajectoryFiles(file).read(slice(None), slice(None)))
    own, filed = train(drawing, tmp_path / "own").card, train(recipe(made, loop=short), tmp_path / "file").card
    assert own.weights_sha256 == filed.weights_sha256
    with pytest.raises(ValidationError, match=r"\[data\] file or \[correct.fields\]: remove one"):
        recipe(made, correct=table(case, 0.05, fields=fields).model_dump())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": {"steps": 2}}, "[correct] teaches one correction"),
        ({"loss": {"target": "state"}}, "[correct] needs labels"),
        ({"loss": {"norm": "plane"}}, "norm: does nothing with kind = 'relative_l2'"),
        ({"loss": {"energy": 0.1}}, "energy: does nothing with kind = 'relative_l2'"),
        ({"loss": {"mirrors": ["z"]}}, "mirrors: does nothing with kind = 'relative_l2'"),
        (
            TURNS | {"equations": {"case": "CASE", "interval": STEP}},
            "a correction is projected in the flow of [correct]",
        ),
        (
            {"correct": {"case": "CASE", "ahead": STEP}},
            "[correct] ahead = 0.05: frames are 0.05 apart, the solver has no part",
        ),
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
