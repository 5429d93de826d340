"""Training end to end on small analytic flows: it learns, continues to the bit, and processes agree."""

from __future__ import annotations

import csv
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from rich.console import Console
from safetensors.torch import load_file
from torch.utils.data import Subset

from closures.data.scaling import fluctuation_size, scaling
from closures.data.windows import TrajectoryFiles, Windows
from closures.operators import artefact, build
from closures.operators.predictor import Predictor
from closures.training.experiment import load_experiment, train
from closures.training.fit import Fit
from closures.training.objective import Rollout
from closures.training.processes import ProcessGroup, process_group
from closures.training.recipe import SHIPPED
from solver.errors import CaseError, Diverged, FeatureUnavailable, RunFolderError
from solver.parallel import ranks as parallel
from tests.training.trajectories import small_recipe, travelling, write_file

SMALL = {
    "fno": {"width": 6, "modes": [2, 4, 2], "layers": 2, "hidden": 8},
    "ifno": {"width": 6, "modes": [2, 4, 2], "iterations": 3, "hidden": 8},
    "mgno": {"width": 6, "layers": 2, "levels": 2},
    "unet": {"width": 6, "levels": 2},
    "ifactformer_m": {"width": 16, "heads": 2, "multiplier": 1, "iterations": 3, "modes": 2},
    "ifactformer_o": {"width": 16, "heads": 2, "multiplier": 1, "iterations": 3, "modes": 2},
}
SCRIPT = Path(__file__).with_name("train_once.py")
ROOT = SCRIPT.parents[2]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_file(tmp_path_factory.mktemp("data") / "waves.h5")


def start(recipe, out, kill_at=0, **environment):
    """Train in a process of its own."""
    command = [sys.executable, str(SCRIPT), str(out), recipe.model_dump_json(), str(kill_at)]
    variables = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment
    return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def weights(folder):
    return load_file(folder / artefact.WEIGHTS)


def largest_difference(a, b):
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


@pytest.mark.parametrize(("name", "precision"), [*((name, "float32") for name in SMALL), ("ifactformer_o", "bfloat16")])
def test_fits_one_pair(tmp_path, file, name, precision):
    """200 steps on one pair of frames: 1 % of the fluctuations is missed, where a frozen field misses 21 %."""
    rate = 1e-2 if name == "mgno" else 2e-2  # V-cycles multiply stencils with one another
    recipe, source = small_recipe(file, optimiser={"rate": rate}, loss={"noise": 0.0}), TrajectoryFiles(file)
    torch.manual_seed(90)
    predictor = Predictor(build(name, **SMALL[name]), scaling(source, [0], 1, "increment"))
    objective = Rollout(predictor, source.domain, recipe.loss, precision)
    loop = recipe.loop.model_copy(update={"epochs": 2, "batch": 1})
    pairs, alone = Windows(source, [0]), ProcessGroup(0, 1, torch.device("cpu"))
    fit = Fit(objective, Subset(pairs, [0] * 100), Subset(pairs, [0]), recipe.optimiser, loop, alone, tmp_path, name)
    last = fit.run().history[-1]
    assert last["frozen_fluctuation_error"] > 0.2
    assert last["fluctuation_error"] < (0.01 if precision == "float32" else 0.03)
    assert all(w.dtype == torch.float32 for w in objective.network.parameters())


def test_learns_travelling_waves(tmp_path, file):
    """The flow one step later on trajectories it has not seen; a frozen field misses 21 % of the fluctuations."""
    recipe = small_recipe(file, loss={"noise": 0.0}, loop={"epochs": 30, "batch": 2}, operator=SMALL["fno"])
    card = train(recipe, tmp_path).card
    assert card.metrics["frozen_fluctuation_error"] > 0.2
    assert card.metrics["fluctuation_error"] < 0.05
    assert (card.architecture, card.inputs) == ("fno", "velocity")
    assert (card.start, card.step) == pytest.approx((0.3, 0.1))


def test_continues_to_the_bit_after_a_kill(tmp_path, file):
    """Killed in the middle of the second epoch, after a state was written at every step, with averaged weights."""
    recipe = small_recipe(file, loop={"checkpoint_seconds": 0.0}, optimiser={"average": 0.9})
    train(recipe, tmp_path / "whole")
    killed = start(recipe, tmp_path / "resumed", kill_at=4)
    assert killed.wait(timeout=120) == -signal.SIGKILL, killed.stdout.read()
    assert not (tmp_path / "resumed" / artefact.WEIGHTS).exists()
    assert (tmp_path / "resumed" / "state.safetensors").exists()
    resumed = train(recipe, tmp_path / "resumed")
    assert largest_difference(weights(tmp_path / "resumed"), weights(tmp_path / "whole")) == 0.0
    whole, again = ((tmp_path / name / "history.csv").read_text() for name in ("whole", "resumed"))
    assert whole == again
    assert resumed.progress.step == 6
    assert train(recipe, tmp_path / "resumed").progress.step == 6  # finished: nothing is done again


def test_a_lost_checkpoint_interval_is_done_again_to_the_bit(tmp_path, file):
    """States at epochs only: the steps since the last one are repeated."""
    recipe = small_recipe(file)
    train(recipe, tmp_path / "whole")
    start(recipe, tmp_path / "resumed", kill_at=3).wait(timeout=120)
    train(small_recipe(file, loop={"checkpoint_seconds": 0.0}), tmp_path / "resumed")
    assert largest_difference(weights(tmp_path / "resumed"), weights(tmp_path / "whole")) == 0.0


def test_two_processes_give_the_weights_of_one(tmp_path, file):
    """Half of every batch each, gradients averaged: the same sums in another order."""
    recipe = small_recipe(file)
    train(recipe, tmp_path / "one")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    ranks = [start(recipe, tmp_path / "two", RANK=str(r), LOCAL_RANK=str(r), **group) for r in range(2)]
    for process in ranks:
        assert process.wait(timeout=120) == 0, process.stdout.read()
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    moved = max(float(w.abs().max()) for w in one.values())
    assert largest_difference(one, two) < 1e-6 * moved
    histories = [np.genfromtxt(tmp_path / n / "history.csv", delimiter=",", names=True) for n in ("one", "two")]
    np.testing.assert_allclose(histories[0]["loss"], histories[1]["loss"], rtol=1e-5)


def test_best_weights_are_kept_and_patience_ends_it(tmp_path, file):
    recipe = small_recipe(file, loop={"epochs": 30, "patience": 2}, optimiser={"rate": 0.3, "schedule": "constant"})
    found = train(recipe, tmp_path)
    errors = [row["validation_loss"] for row in found.progress.history]
    best = int(np.argmin(errors))
    assert len(errors) == best + 3 < 30
    assert found.card.metrics["validation_loss"] == pytest.approx(errors[best], rel=1e-6)
    assert errors[-1] > errors[best]


def test_the_last_weights_are_kept_where_that_is_asked_for(tmp_path, file):
    loop = {"epochs": 30, "patience": 2, "keep": "last"}
    found = train(small_recipe(file, loop=loop, optimiser={"rate": 0.3, "schedule": "constant"}), tmp_path)
    errors = [row["validation_loss"] for row in found.progress.history]
    assert found.card.metrics["validation_loss"] == pytest.approx(errors[-1], rel=1e-6)
    assert errors[-1] > min(errors)


def test_a_training_that_is_done_goes_on_with_more_epochs(tmp_path, file):
    """At a constant rate to the weights of the longer one; in the middle of it another number is refused."""
    constant = {"optimiser": {"schedule": "constant", "warm_up": 0.0}}
    short, longer = (small_recipe(file, loop={"epochs": n, "checkpoint_seconds": 0.0}, **constant) for n in (2, 3))
    start(longer, tmp_path / "cut", kill_at=3).wait(timeout=120)
    with pytest.raises(RunFolderError, match="of 3 epochs, not 2: finish it with those"):
        train(short, tmp_path / "cut")
    train(short, tmp_path / "grown")
    grown, whole = (train(longer, tmp_path / name).progress for name in ("grown", "whole"))
    assert [row["epoch"] for row in grown.history] == [0, 1, 2]
    assert grown.history == whole.history
    assert largest_difference(weights(tmp_path / "grown"), weights(tmp_path / "whole")) == 0.0


def test_the_loss_that_is_trained_chooses_the_weights(file):
    """Of all the steps, from first frames with noise: not the error of one step from a clean one."""
    recipe, source = small_recipe(file, loss={"steps": 3}), TrajectoryFiles(file)
    predictor = Predictor(build("fno", **SMALL["fno"]), scaling(source, [0], 1, "increment"))
    noise = 0.3 * fluctuation_size(source, [0])
    objective = Rollout(predictor, source.domain, recipe.loss, "float32", noise)
    batch = torch.stack([Windows(source, [1], 3)[n] for n in range(3)])
    with torch.no_grad():
        means = {name: values.mean(dim=0) for name, values in objective.measure(batch, [5, 6, 7]).items()}
        found = objective.conclude(means)
        assert next(iter(found)) == "validation_loss"
        assert found["validation_loss"] == pytest.approx(float(objective(batch, [5, 6, 7])), rel=1e-6)
    assert abs(found["validation_loss"] - found["relative_l2"]) > 1e-2 * found["relative_l2"]


def test_validation_that_is_not_finite_ends_it_at_once(tmp_path):
    velocity = travelling()
    velocity[-1, 2] = np.nan  # of the trajectory that validates
    bad = write_file(tmp_path / "bad.h5", velocity)
    with pytest.raises(Diverged, match="epoch 0: validation_loss is nan on the validation set"):
        train(small_recipe(bad), tmp_path / "out")


def test_mpirun_and_torchrun_are_not_mixed_up(tmp_path, file, monkeypatch):
    """Each rank would train the same, into the same folder."""
    with monkeypatch.context() as patch:
        patch.setattr(parallel, "world_size", lambda: 2)
        with pytest.raises(CaseError, match=r"2 ranks of mpirun cannot share this training: start .* with torchrun"):
            train(small_recipe(file), tmp_path)
        with pytest.raises(CaseError, match="takes one process: leave out mpirun"):
            train(Path("multigrid"), tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(CaseError, match=r"an ensemble is not shared .* torchrun: start its ranks with mpirun"):
        train(Path("subgrid/tbnn"), tmp_path)
    with pytest.raises(CaseError, match="leave out torchrun"):
        train(Path("multigrid"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_every_process_works_on_a_gpu_of_its_own(monkeypatch):
    """It is made the current one before NCCL's first collective, which would take the first GPU otherwise."""
    said = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: said.append(("current", device)))
    monkeypatch.setattr(dist, "init_process_group", lambda backend, **given: said.append((backend, given["device_id"])))
    monkeypatch.setattr(dist, "get_backend", lambda: "nccl")
    monkeypatch.setattr(dist, "barrier", lambda device_ids: said.append(("barrier", device_ids)))
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "1"), ("LOCAL_RANK", "1"), ("LOCAL_WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    with process_group("cuda") as processes:
        processes.wait()
    own = torch.device("cuda", 1)
    assert said == [("current", own), ("nccl", own), ("barrier", [1])]


def test_rollout_trains_on_its_own_predictions(tmp_path, file):
    """The error of the last of three steps is measured; cutting the gradient between steps gives other weights."""
    several = {"steps": 3, "noise": 0.02}
    settings = {"loop": {"epochs": 30, "batch": 2}, "operator": SMALL["fno"]}
    through = train(small_recipe(file, loss=several, **settings), tmp_path / "through")
    cut = train(small_recipe(file, loss=several | {"through": False}, **settings), tmp_path / "cut")
    assert largest_difference(weights(tmp_path / "through"), weights(tmp_path / "cut")) > 1e-4
    for found in (through, cut):
        rows = found.progress.history
        assert rows[-1]["fluctuation_error_3"] < 0.5 * rows[0]["fluctuation_error_3"]


@pytest.mark.parametrize("changes", [{"kind": "sobolev", "length": 0.3}, {"target": "state"}])
def test_other_losses_and_targets_learn_too(tmp_path, file, changes):
    recipe = small_recipe(file, loss=changes, loop={"epochs": 30, "batch": 2}, operator=SMALL["fno"])
    found = train(recipe, tmp_path)
    assert found.card.metrics["fluctuation_error"] < 0.5 * found.progress.history[0]["fluctuation_error"]


def test_what_it_leaves_and_shows(tmp_path, file):
    with (tmp_path / "log").open("w") as log:
        train(small_recipe(file), tmp_path / "out", console=Console(file=log, width=200))
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line.split()[1] for line in lines] == ["0", "1", "2"]
    assert lines[-1].endswith("0 s left")
    rows = list(csv.DictReader((tmp_path / "out" / "history.csv").open()))
    assert [row["step"] for row in rows] == ["2", "4", "6"]
    again = load_experiment(tmp_path / "out" / "recipe.toml")
    assert again == small_recipe(file)
    card = artefact.load(tmp_path / "out").card
    assert len(card.data_sha256) == 64
    assert (card.filter, card.nu) == ("none", (0.01, 0.01))


def test_tensorboard_log(tmp_path, file):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = train(small_recipe(file), tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [e.step for e in events.Scalars("training/loss")] == [1, 2, 3, 4, 5, 6]
    errors = [e.value for e in events.Scalars("epoch/fluctuation_error")]
    np.testing.assert_allclose(errors, [row["fluctuation_error"] for row in found.progress.history], rtol=1e-6)


def test_mistakes_are_named(tmp_path, file):
    def refused(match, error=CaseError, out="out", **changes):
        with pytest.raises(error, match=match) as caught:
            train(small_recipe(file, **changes), tmp_path / out)
        assert "\n" not in str(caught.value)

    refused(r"batch = 100: there are only 10 training samples", loop={"batch": 100})
    refused(r"no window of 9 steps of 1 frames", loss={"steps": 9})
    refused(r"no such data set", data={"file": str(tmp_path / "nothing.h5")})
    refused(r"unknown key 'depth'", operator={"depth": 2})
    if not torch.cuda.is_available():
        refused(r"device = 'cuda': torch sees no GPU", FeatureUnavailable, loop={"device": "cuda"})
    refused(r"the gradient is not finite; lower \[optimiser\] rate", Diverged, optimiser={"rate": 1e30, "clip": 1e38})


def test_stress_models_have_no_recipe_here(tmp_path, file):
    recipe = small_recipe(file)
    recipe = recipe.model_copy(update={"operator": type(recipe.operator)(name="cnn")})
    with pytest.raises(CaseError, match="'cnn' models a stress"):
        train(recipe, tmp_path)


def test_the_state_of_another_training_is_refused(tmp_path, file):
    train(small_recipe(file), tmp_path)
    with pytest.raises(RunFolderError, match="belongs to another recipe, data file or version"):
        train(small_recipe(file, optimiser={"rate": 2e-2}), tmp_path)
    (tmp_path / "state.safetensors").write_bytes(b"nothing")
    with pytest.raises(RunFolderError, match="damaged training state"):
        train(small_recipe(file), tmp_path)


@pytest.mark.parametrize("recipe", sorted(SHIPPED.glob("*.toml")), ids=lambda p: p.stem)
def test_shipped_recipes_build_their_network(recipe):
    found = load_experiment(Path(recipe.stem))
    assert load_experiment(recipe) == found
    assert found.operator.name == recipe.stem.removesuffix("_channel180_coarse")
    with torch.device("meta"):
        assert build(found.operator.name, **found.operator.arguments).grid_free


def test_the_shipped_recipes_differ_in_the_operator_only():
    """One budget for all: data, loss, epochs, batch and seed are the same."""
    found = [load_experiment(path) for path in sorted(SHIPPED.glob("*_channel180_coarse.toml"))]
    assert len(found) == 4
    for recipe in found[1:]:
        assert (recipe.data, recipe.loss, recipe.card) == (found[0].data, found[0].loss, found[0].card)
        assert recipe.loop.model_copy(update={"precision": "float32"}) == found[0].loop


def test_recipes_that_are_wrong(tmp_path):
    path = tmp_path / "recipe.toml"
    with pytest.raises(
        CaseError, match="no such recipe; give a TOML file, or one of correctors/differential_channel180_c"
    ):
        load_experiment(path)
    path.write_text("title = ")
    with pytest.raises(CaseError, match="not valid TOML"):
        load_experiment(path)
    text = (SHIPPED / "fno_channel180_coarse.toml").read_text()
    path.write_text(text.replace("epochs = 30", "epoch = 30"))
    with pytest.raises(CaseError, match=r"\[loop\] unknown key 'epoch'; did you mean 'epochs'"):
        load_experiment(path)
    idle = {"noise = 0.01": "noise = 0.01\nlength = 0.1", "clip = 1.0": "clip = 1.0\nwarm_up = 0.1"}
    idle |= {'target = "increment"': "data = 2.0", 'kind = "relative_l2"': "through = false"}
    for old, new in idle.items():
        path.write_text(text.replace(old, new))
        with pytest.raises(CaseError, match=f"{new.splitlines()[-1].split()[0]}: does nothing with .*: remove it"):
            load_experiment(path)
    path.write_text(text.replace("batch = 8", "batch = 0"))
    with pytest.raises(CaseError, match=r"\[loop\] batch = 0: should be greater"):
        load_experiment(path)
