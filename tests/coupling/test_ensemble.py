"""Closures fitted to the statistics of long runs: twin experiments in a tiny channel."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from closures.data.windows import TrajectoryFiles
from closures.operators import artefact, build
from closures.operators.predictor import Scaling
from closures.operators.stress import dissipation
from closures.training import ensemble
from closures.training.experiment import load_experiment, train
from closures.training.long_run import LongRun
from solver.case.case import load_case
from solver.errors import CaseError, Diverged, RunFolderError
from solver.files.folder import to_toml, write_text
from solver.flow.forcing import bulk_velocity
from solver.run import build as assembly
from tests import runs
from tests.runs import needs_mpirun
from tests.training.trajectories import add_statistics, les_file

STEP, FRAMES = 0.1, 16


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The case, and a file of flows with a strong Smagorinsky model, with their statistics."""
    case, file = les_file(tmp_path_factory.mktemp("ensemble"), (1,), FRAMES, STEP, substeps=2)
    add_statistics(file)
    return case, file


STRESS = {"name": "tensor_basis", "width": 2, "depth": 1, "tensors": 1, "c_s": 0.05, "backscatter": 0.0}
OPERATOR = {"name": "differential", "width": 4, "layers": 1, "lengths": [0.5, 0.1, 0.3], "polynomials": 2}


def recipe(made, folder, operator=STRESS, **table):
    """A recipe on disk."""
    case, file = made
    described = {
        "title": "a test",
        "data": {"file": str(file)},
        "operator": operator,
        "ensemble": {
            "case": str(case),
            "overrides": [f"time.dt={STEP / 2}"],
            "members": 6,
            "iterations": 3,
            "spread": 2.0,
            "settle": 0.5,
            "average": 1.0,
        }
        | table,
        "card": {"trained_on": "a twin"},
    }
    write_text(folder / "recipe.toml", to_toml(described))
    return folder / "recipe.toml"


def history(folder):
    """The rows of ``history.csv``."""
    with (folder / "history.csv").open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def five_steps(case, closure):
    """The flow of a case after five steps with a closure, given as the inside of a TOML table."""
    found, folder = load_case(case, (f"closure={{{closure}}}",))
    simulation = assembly.build(assembly.Source(found, folder, "case"))
    with torch.no_grad():
        for _ in range(5):
            simulation.step()
    return simulation


def test_the_misfit_falls_and_the_artefact_runs(made, tmp_path, monkeypatch):
    """This flow decays: every run begins where the data do, so that the target stays the same."""
    run = LongRun.together
    monkeypatch.setattr(
        LongRun, "together", lambda flow, begun, *times: run(flow, [flow.first(0)] * len(begun), *times)
    )
    file = recipe(made, tmp_path, settle=0.01, average=1.5, spread=6.0, tolerance={"uv": 1.0})
    card = train(file, tmp_path / "out").card
    rows = history(tmp_path / "out")
    assert len(rows) == 3
    assert rows[-1]["misfit"] < 0.5 * rows[0]["misfit"]
    assert [row["lost"] for row in rows] == [0, 0, 0]
    assert 0 < rows[0]["time"] < rows[-1]["time"] <= 1.0
    assert set(card.metrics) == {"u_mean", "u_rms", "v_rms", "w_rms", "uv", "c_f"}
    assert card.role == "subgrid_model"
    simulation = five_steps(made[0], f"name='tensor_basis', artefact='{tmp_path / 'out'}'")
    assert simulation.closure_state["guard"].tolist() == [0, 0, 0]
    gradient = torch.stack([torch.stack(list(row)) for row in simulation.velocity.gradient])[None]
    drain = dissipation(torch.stack(list(simulation.present_term().tau))[None], gradient)
    assert float(drain.min()) > -1e-9 * float(drain.max())  # at centres, where the network promises it
    assert float(drain.max()) > 0


@pytest.fixture(scope="module")
def coarser(tmp_path_factory):
    """The same flow on fewer cells, and the keys that say so."""
    overrides = ("grid.x.n=6", "grid.y.n=5")
    _, file = les_file(tmp_path_factory.mktemp("coarser"), (2,), FRAMES, STEP, substeps=2, overrides=overrides)
    add_statistics(file)
    return {"file": str(file), "overrides": list(overrides)}


def test_a_grid_without_fields_begins_with_those_of_another(made, coarser, tmp_path):
    """Its statistics are the target; its first frames those of the first grid, interpolated and free of divergence."""
    alone = tmp_path / "statistics.h5"
    shutil.copyfile(coarser["file"], alone)
    with h5py.File(alone, "r+") as file:
        del file["t1_fields/velocity"]
    table = recipe(made, tmp_path, flows=[coarser | {"file": str(alone)}], members=4, iterations=1)
    both = ensemble.Inversion(load_experiment(table), TrajectoryFiles(made[1]), tmp_path / "out", None)
    fine, coarse = both.flows
    with_fields = LongRun(
        both.candidate.closure,
        TrajectoryFiles(Path(coarser["file"])),
        [0],
        str(made[0]),
        (f"time.dt={STEP / 2}", *coarser["overrides"]),
    )
    means = coarse(coarse.first(1), 0.01, 0.5).means
    for own, same in zip(coarse.deviations(means), with_fields.deviations(means), strict=True):
        np.testing.assert_array_equal(own, same)
    u = tuple(torch.from_numpy(c) for c in coarse.first(1))
    op, other = coarse.simulation.operators, fine.simulation.operators
    assert float(op.to_physical(op.divergence(u)).abs().max()) < 1e-12
    bulk = [bulk_velocity(*pair) for pair in ((op, u[0]), (other, torch.from_numpy(fine.first(1)[0])))]
    assert float(bulk[0]) == pytest.approx(float(bulk[1]), rel=0.05)
    card = both.run()
    assert "u_rms_6x5x8" in card.metrics


def test_two_flows_on_two_grids_count_as_much_as_each_other(made, coarser, tmp_path, monkeypatch):
    """The outputs of a member are those of both; a training that stopped goes on with both."""
    run = LongRun.together
    monkeypatch.setattr(
        LongRun, "together", lambda flow, begun, *times: run(flow, [flow.first(0)] * len(begun), *times)
    )
    file = recipe(made, tmp_path, settle=0.01, average=1.5, spread=6.0, flows=[coarser], tolerance={"uv": 1.0})
    both = ensemble.Inversion(load_experiment(file), TrajectoryFiles(made[1]), tmp_path / "none", None)
    rows = [sum(flow.target_rows) for flow in both.flows]
    assert rows[0] > rows[1] > 0
    first = both.first()
    ends = tuple(flow(flow.first(0), 0.01, 0.5) for flow in both.flows)
    whole = both.output(ends)
    for k, part in enumerate(np.split(whole, [rows[0]])):
        assert np.array_equal(part, np.concatenate(both.flows[k].deviations(ends[k].means)))
    assert [len(velocity) for velocity in first.velocities] == [6] * 6
    card = train(file, tmp_path / "out").card
    assert card.grid is None
    assert {"u_mean", "c_f"} < set(card.metrics)
    assert sum("_" + "x".join(map(str, both.flows[1].frames.domain.shape)) in key for key in card.metrics) == 6
    found = history(tmp_path / "out")
    assert found[-1]["misfit"] < 0.8 * found[0]["misfit"]
    assert not train(file, tmp_path / "out").card.model_dump().keys() ^ card.model_dump().keys()


def test_a_training_goes_on_where_it_stopped(made, tmp_path):
    """Stopped after the first iteration, it ends with the bits of the one that was not."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    first, longer = (recipe(made, _new(tmp_path / name), iterations=2, members=4) for name in ("a", "b"))
    train(first, whole)

    class Stop(Exception):
        pass

    def once(*args):
        write(*args)
        raise Stop

    write = ensemble.write_state
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ensemble, "write_state", once)
        with pytest.raises(Stop):
            train(longer, parts)
    assert not (parts / artefact.WEIGHTS).exists()
    train(longer, parts)
    one, other = (load_file(folder / artefact.WEIGHTS) for folder in (whole, parts))
    assert all((one[name] == other[name]).all() for name in one)
    assert history(whole) == history(parts)
    with pytest.raises(RunFolderError, match="belongs to another recipe"):
        train(recipe(made, tmp_path, spread=1.0), parts)


@pytest.fixture
def begun(made, tmp_path):
    """What makes a network that changes nothing, with `step` and `interval` of its role."""

    def make(**times):
        source = TrajectoryFiles(made[1])
        units = Scaling(target="increment", mean=(0.0, 0.0, 0.0), std=(0.5, 0.1, 0.1), change=(0.05, 0.05, 0.05))
        about = {"filter": "none", "nu": (0.002, 0.002), "trained_on": "nothing", "data_sha256": None, "commit": None}
        about |= {"grid": source.domain.describe(), "scaling": units, "metrics": {}, "licence": "none"}
        artefact.save(tmp_path / "begun", build(**OPERATOR), "differential", _arguments(OPERATOR), **about, **times)
        return {"operator": OPERATOR, "begin": str(tmp_path / "begun"), "moves": ["project"]}

    return make


@pytest.mark.parametrize(
    "times", [{"step": 0.0, "interval": 0.1}, {"step": 0.1, "start": 0.2}], ids=["corrector", "surrogate"]
)
def test_operators_on_the_whole_field_are_trained_as_well(made, begun, tmp_path, monkeypatch, times):
    """The weights that move make the flow that of the data; the others, the units and the times stay."""
    run = LongRun.together
    monkeypatch.setattr(LongRun, "together", lambda flow, begun, *rest: run(flow, [flow.first(0)] * len(begun), *rest))
    first, tolerance = (
        begun(**times),
        {"u_mean": 0.01, "u_rms": 0.05, "v_rms": 0.2, "w_rms": 2.0, "uv": 1.0, "c_f": 0.05},
    )
    file = recipe(made, tmp_path, settle=0.01, average=1.5, spread=0.3, iterations=8, tolerance=tolerance, **first)
    card = train(file, tmp_path / "out").card
    rows = history(tmp_path / "out")
    assert rows[-1]["misfit"] < 0.8 * rows[0]["misfit"]
    before, after = (load_file(folder / artefact.WEIGHTS) for folder in (tmp_path / "begun", tmp_path / "out"))
    moved = {name for name in before if (before[name] != after[name]).any()}
    assert moved == {name for name in before if name.startswith("project")}
    old = artefact.read_card(tmp_path / "begun" / artefact.CARD)
    assert (card.role, card.scaling) == (old.role, old.scaling)
    assert (card.step, card.interval, card.start) == (old.step, old.interval, old.start)
    simulation = five_steps(made[0], f"name='{card.role}', artefact='{tmp_path / 'out'}', base='none'")
    assert simulation.closure_state["guard"].tolist() == [0, 0, 0]


@needs_mpirun
def test_the_same_network_on_two_ranks(made, tmp_path):
    file = recipe(made, tmp_path, members=4, iterations=1)
    train(file, tmp_path / "one")
    done = runs.ended(runs.mpirun(2, "-m", "solver", "train", file, "--out", tmp_path / "two", "--quiet"))
    assert (done.code, done.err) == (0, "")
    one, two = (load_file(tmp_path / name / artefact.WEIGHTS) for name in ("one", "two"))
    assert all(np.allclose(one[name], two[name], rtol=1e-6, atol=1e-7) for name in one)


def test_tensorboard_shows_misfit_and_pseudo_time_of_every_run(made, tmp_path):
    """Those of an iteration at the time it began, then those of the mean network."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(recipe(made, tmp_path, members=4, iterations=2), tmp_path / "out")
    events = EventAccumulator(str(tmp_path / "out" / "tensorboard")).Reload()
    assert [tag for tag in events.Tags()["scalars"] if not tag.startswith("epoch/")] == [
        "ensemble/misfit",
        "ensemble/pseudo_time",
    ]
    misfits, times = (events.Scalars(f"ensemble/{name}") for name in ("misfit", "pseudo_time"))
    rows = history(tmp_path / "out")
    assert [e.step for e in misfits] == [e.step for e in times] == list(range(1, 4 * len(rows) + 5))
    assert [e.value for e in times] == pytest.approx([0.0] * 4 + [row["time"] for row in rows for _ in range(4)])
    means = np.reshape([e.value for e in misfits], (-1, 4)).mean(1)
    assert means[: len(rows)] == pytest.approx([row["misfit"] for row in rows], rel=1e-5)


def test_lost_flows_start_again_among_the_others(made, tmp_path):
    """A wide first ensemble loses some of its flows; the rest go on."""
    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        whole, count = LongRun.together, iter(range(100))
        patch.setattr(
            LongRun, "together", lambda *args: [None if next(count) in (1, 3) else end for end in whole(*args)]
        )
        train(recipe(made, tmp_path, iterations=1), out)
    assert history(out)[0]["lost"] == 2
    assert np.isfinite(load_file(out / "state.safetensors")["parameters"]).all()


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"overrides": ["grid.x.n=10"]}, CaseError, "its modes and cells are 10 x 9 x 8 points, the data have others"),
        ({"members": 3}, CaseError, "[ensemble] members = 3"),
        ({"average": 0.1}, CaseError, "is less than 10 steps: average longer"),
        ({"overrides": ["time.dt=2.0"], "settle": 40.0}, Diverged, "of 6 flows are left"),
    ],
)
def test_what_cannot_be_is_refused(made, tmp_path, changes, kind, message):
    with pytest.raises(kind) as caught:
        train(recipe(made, tmp_path, **changes), tmp_path / "out")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"begin": None}, "[ensemble] begin: 'differential' steps a velocity: train it offline first"),
        ({"moves": ["last"]}, "[ensemble] moves = 'last': no weight begins so; there are lift.weight"),
        ({"closure": {"evry": 2}}, "[closure] unknown key 'evry'"),
        ({"operator": {"name": "tensor_basis"}, "closure": {"base": "none"}}, "'tensor_basis' models the stress"),
    ],
)
def test_recipes_that_do_not_fit_are_refused(made, begun, tmp_path, table, message):
    wanted = begun(step=0.1) | table
    if wanted["begin"] is None or wanted["operator"]["name"] == "tensor_basis":
        del wanted["begin"]
    with pytest.raises(CaseError) as caught:
        train(recipe(made, tmp_path, **wanted), tmp_path / "out")
    assert message in str(caught.value)


def test_it_needs_trajectories(made, tmp_path):
    file = recipe(made, tmp_path)
    text = file.read_text().replace(f'file = "{made[1]}"', "")
    write_text(file, text)
    with pytest.raises(CaseError, match=r"\[data\] file: give a file of trajectories"):
        train(file, tmp_path / "out")


def _arguments(operator):
    return {key: value for key, value in operator.items() if key != "name"}


def _new(folder):
    folder.mkdir()
    return folder
