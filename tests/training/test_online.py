"""Training while the solver runs: the same to the bit on any ranks, through kills and lost flows; and its bad input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from closures.operators import artefact
from closures.operators.predictor import Scaling
from closures.training.experiment import load_experiment, train
from closures.training.online.flows import HELD_OUT, TEACHING, Flows
from closures.training.online.lane import PATIENCE, Lane, put
from closures.training.online.student import Student
from closures.training.online.train import Online
from closures.training.recipe import Recipe, checked
from solver.errors import CaseError, Diverged
from tests import runs
from tests.runs import write_case

NO_MODEL = "closure={name='none'}"


def recipe_of(root, correct=True, **changes) -> Recipe:
    """A small FNO in turns with the solver, taught by runs with Smagorinsky's model; `changes` are tables by name."""
    case = str(root / "case")
    tables = {
        "title": "tiny",
        "online": {
            "case": case,
            "overrides": ["closure={name='smagorinsky'}"],
            "interval": 0.1,
            "steps": 2,
            "spin_up": 0.2,
            "flows": 3,
            "length": 2,
            "samples": 6,
            "ratio": 0.5,
            "deterministic": True,
            "buffer": {"capacity": 5, "watermark": 2},
            "held_out": {"flows": 1, "frames": 3},
            "on_policy": {"longest": 2, "refresh": 2, "rise": 0.2},
        },
        "operator": {"name": "fno", "width": 4, "modes": [2, 3, 2], "layers": 1, "hidden": 4},
        "loss": {"kind": "projected_l2"},
        "optimiser": {"rate": 1e-2},
        "loop": {"epochs": 3, "batch": 2, "device": "cpu", "checkpoint_seconds": 0.0},
        "card": {"trained_on": "tiny"},
    }
    if correct:
        tables["correct"] = {"case": case, "overrides": [NO_MODEL], "steps": 1, "ahead": 0.05}
    for name, change in changes.items():
        tables[name] = {**tables.get(name, {}), **change} if isinstance(change, dict) else change
    return Recipe.model_validate({name: table for name, table in tables.items() if table is not None})


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("online")
    write_case(folder / "case")
    return folder


@pytest.fixture(scope="module")
def alone(root):
    """A training whose flows take turns with it, and what it left."""
    torch.set_num_threads(1)
    return train(recipe_of(root), root / "alone")


def weights(folder):
    return load_file(folder / artefact.WEIGHTS)


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def rows(log) -> list[tuple[int, int, float]]:
    """Lane, count and sum of each sample that was taken up."""
    return [(int(a), int(b), float(c)) for _, a, b, c in (line.split() for line in log.read_text().splitlines())]


def launch(root, name, count, rank=-1, step=0):
    words = (root / name, recipe_of(root).model_dump_json(), root / f"{name}.log", rank, step)
    return runs.ended(runs.mpirun(count, "-m", "tests.training.online_once", *words))


@pytest.mark.slow
def test_alone_it_takes_turns_and_leaves_what_it_saw(root, alone):
    """The card says what passed by; beside it lie the held-out flows and one checkpoint, and no set of data."""
    stream = alone.card.stream
    assert stream["samples"] > 8
    assert stream["friction_least"] > 0
    assert stream["energy_least"] <= stream["energy_mean"] <= stream["energy_greatest"]
    assert (alone.card.step, alone.card.interval) == pytest.approx((0.05, 0.1))
    files = {file.name for file in (root / "alone").iterdir() if file.is_file()}
    assert files == {"card.json", "weights.safetensors", "recipe.toml", "history.csv", "state.safetensors"} | {
        "held_out.safetensors"
    }
    header = (root / "alone" / "history.csv").read_text().splitlines()[0].split(",")
    wanted = {"validation_loss", "made", "made_per_second", "drawn_per_second", "buffer", "age", "lost", "refused"}
    assert wanted <= set(header)
    assert alone.progress.history[-1]["age"] > 0  # weights that led a flow are older than those that learn from it


@runs.needs_mpirun
def test_two_producers_and_one_and_none_give_the_same_weights(root, alone):
    """To the bit, though first one of two producers and then the trainer is killed; no sample is missing or another."""
    assert launch(root, "ranks", 3, rank=1, step=3).code != 0
    assert launch(root, "ranks", 2, rank=0, step=6).code != 0
    done = launch(root, "ranks", 3)
    assert done.code == 0, done.err
    assert "on 3 ranks" in done.out
    assert same(weights(root / "ranks"), weights(root / "alone"))
    came = rows(root / "ranks.log")
    made = {(lane, count): values for lane, count, values in came}
    assert len(set(came)) == len(made) == alone.card.stream["samples"]  # what came again after a kill was the same
    assert len(came) - len(made) <= 2 * 2  # a checkpoint at each step, which takes up to two
    for lane in range(3):
        counts = sorted(count for own, count in made if own == lane)
        assert counts == list(range(1, len(counts) + 1))


@pytest.mark.slow
def test_a_lost_flow_begins_anew_and_is_counted(root, tmp_path, monkeypatch):
    """Its first attempts blow up at their second interval; the samples that come are of others, with other noise."""
    flows, seen = Flows(recipe_of(root).online, "cpu"), {}
    advance, begin = Flows.advance, Flows.begin

    def begun(self, kind, number, attempt=0):
        found = begin(self, kind, number, attempt)
        seen[id(found)] = attempt
        return found

    def blown_up(self, simulation):
        advance(self, simulation)
        if seen[id(simulation)] < bad and simulation.step_count >= 6:
            raise Diverged("t = 0.3: the velocity is not finite")

    monkeypatch.setattr(Flows, "begin", begun)
    monkeypatch.setattr(Flows, "advance", blown_up)
    bad = 2
    sample = Lane(flows, 0, 1)()
    assert (sample.after.place.lost, sample.after.place.attempt) == (2, 2)
    assert (sample.after.place.count, sample.after.place.flow) == (1, 0)
    seeds = [flows.source(TEACHING, 0, attempt).case.initial.seed for attempt in range(3)]
    assert len(set(seeds)) == 3
    bad = 10**6
    with pytest.raises(Diverged, match=rf"\[online\] flow 1 was lost {PATIENCE} times in a row, .* raise steps"):
        Lane(flows, 1, 1)()


def test_a_flow_is_where_it_was_left(root):
    """Another process goes on with the same samples to the bit, whatever it did before; lanes go on with others."""
    flows = Flows(recipe_of(root).online, "cpu")
    lane = Lane(flows, 1, 1)
    first, second, third = lane(), lane(), lane()
    assert [s.after.place.flow for s in (first, second, third)] == [1, 4, 4]
    again = Lane(flows, 1, 1, first.after)
    again_second = again()
    np.testing.assert_array_equal(again_second.frames, second.frames)
    np.testing.assert_array_equal(again().frames, third.frames)
    np.testing.assert_array_equal(first.frames[1], again_second.frames[0])  # one goes on where the other ended
    simulation = flows.begin(TEACHING, 1)
    put(simulation, first.after)
    assert (simulation.t, simulation.step_count) == (pytest.approx(0.3), 6)


def test_flows_depend_on_their_number_alone(root):
    ranges = {"flow.nu": (0.002, 0.004), "initial.amplitude": (0.1, 0.3)}
    table = recipe_of(root).online.model_copy(update={"ranges": ranges})
    flows = Flows(table, "cpu")
    cases = [flows.source(TEACHING, n).case for n in (3, 0, 1)]
    assert cases[0] == Flows(table, "cpu").source(TEACHING, 3).case
    nus, seeds = {c.flow.nu for c in cases}, {c.initial.seed for c in cases}
    assert len(nus) == len(seeds) == 3
    assert all(0.002 <= nu <= 0.004 for nu in nus)
    other = flows.source(TEACHING, 3, attempt=1).case
    assert (other.flow.nu, other.initial.amplitude) == (cases[0].flow.nu, cases[0].initial.amplitude)
    assert other.initial.seed != cases[0].initial.seed
    assert flows.source(HELD_OUT, 0).case.initial.seed not in seeds


@pytest.mark.slow
def test_labels_of_unphysical_states_are_refused(root):
    """Weights that throw the flow about lead it where the equations are not known; the teacher's own flow stays."""
    online = Online(recipe_of(root), 0)
    maker = online.maker()
    units = Scaling(target="increment", mean=(0.0,) * 3, std=(1.0,) * 3, change=(0.01,) * 3)
    maker.begin({0: None}, units)
    student = maker.student
    still = {name: torch.zeros_like(w) for name, w in student.trajectory.predictor.network.state_dict().items()}
    torch.manual_seed(81)
    wild = {name: 30.0 * torch.randn_like(w) for name, w in still.items()}
    counts = {}
    for name, network in (("still", still), ("wild", wild)):
        student.take(10**6, network)
        lane = Lane(online.flows, 0, 1)
        samples = [lane(student) for _ in range(6)]
        counts[name] = samples[-1].after.place.refused
        led = [s for s in samples if s.alone]
        assert all(s.version == 10**6 for s in led)
        assert all(s.version == -1 for s in samples if not s.alone)
        assert all(np.isfinite(s.frames).all() for s in samples)
        assert bool(led) == (name == "still")
    assert counts["still"] == 0
    assert counts["wild"] > 0


def test_the_network_goes_on_alone_for_longer_and_longer():
    """Half of the time not at all, else for one interval up to what its step allows."""
    student = Student(None, 8, 0.5, 100, 1.0)
    random = np.random.default_rng(4091)
    for version, longest in ((0, 0), (10, 1), (25, 4), (50, 8), (90, 8)):
        student.version = version
        drawn = [student.alone(random) for _ in range(400)]
        assert max(drawn) == longest
        if longest:
            assert 0.4 < np.mean([n == 0 for n in drawn]) < 0.6
            assert set(drawn) == set(range(longest + 1))


def test_a_surrogate_of_every_step(root, tmp_path):
    """Without `[correct]`: errors of its answers as they are, and flows that it leads behind the projection."""
    recipe = recipe_of(root, correct=False, loss={"kind": "plane"}, loop={"epochs": 1})
    card = train(recipe, tmp_path).card
    assert (card.step, card.interval, card.role) == (pytest.approx(0.1), 0.0, "surrogate")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"file": "x"}}, r"first frames come from \[online\], \[data\] file or .*: remove one"),
        ({"data": {"stride": 2}}, r"\[data\]: says how a data set is cut into windows, \[online\] has none: remove it"),
        ({"online": {"buffer": {"capacity": 4, "watermark": 4}}}, "watermark = 4: should be less than capacity = 4"),
        ({"online": {"buffer": {"kind": "firo"}}}, r"ratio: does nothing with \[online.buffer\] kind = 'firo'"),
        ({"online": {"ranges": {"grid.x.n": [8, 16]}}}, "ranges: 'grid.x.n' belongs to all flows"),
        ({"online": {"ranges": {"flow.nu": [2.0, 1.0]}}}, "give the least value first"),
        ({"loss": {"kind": "plane"}}, r"\[correct\] beside \[online\]: use \[loss\] kind = 'projected_l2'"),
    ],
)
def test_wrong_recipes(root, tmp_path, changes, message):
    tables = recipe_of(root).model_dump(mode="json", exclude_none=True)
    for name, change in changes.items():
        tables[name] = {**tables.get(name, {}), **change}
    with pytest.raises(CaseError, match=message):
        checked(Recipe, tables, tmp_path / "recipe.toml")


@pytest.mark.parametrize(
    ("changes", "others", "message"),
    [
        ({}, 4, r"\[online\] flows = 3: 4 ranks cannot share them and train: use mpirun -n 4 at most, or more flows"),
        ({"buffer": {"capacity": 10**12}}, 0, r"capacity = 1000000000000 needs .* GiB .*: keep fewer samples"),
        ({"overrides": ["grid.y.n=11"]}, 1, r"the teacher has 8 x 11 x 8 points, the case of \[correct\] 8 x 9 x 8"),
        ({"overrides": ["run.dtype=float32"]}, 1, r"run.dtype of the teacher and of the case of \[correct\] differ"),
        ({"ranges": {"flow.nu": [0.001, 0.002]}}, 0, r"ranges: 'flow.nu': the solver of \[correct\] has one value"),
        ({"ranges": {"flow.nuu": [0.001, 0.002]}}, 0, "nuu"),
        ({"samples": 1}, 0, r"\[online\] samples = 1: are less than \[loop\] batch = 2"),
        ({"ratio": 1.0, "buffer": {"kind": "firo", "capacity": 3, "watermark": 2}}, 0, "'firo' needs 4 for batches"),
    ],
)
def test_what_does_not_go_together(root, changes, others, message):
    """In one line, on every rank alike, before anything is begun."""
    with pytest.raises(CaseError, match=message):
        Online(recipe_of(root, online=changes), others)


def test_data_on_the_command_line_has_no_use(root, tmp_path):
    with pytest.raises(CaseError, match=r"--data .*: the samples of \[online\] come from running flows: leave it out"):
        train(recipe_of(root), tmp_path, tmp_path / "x.h5")


def test_shipped_recipe_is_one_of_them():
    recipe = load_experiment(Path("surrogates/online_channel180_coarse"))
    assert recipe.online is not None
    assert Online(recipe, 1).partner is not None
