"""Training by the equations end to end: the loss falls, it goes on where it stopped, and mistakes are named."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from closures.operators import artefact, build
from closures.training.experiment import load_experiment, train
from closures.training.own_les import FILE, draw, teacher
from closures.training.processes import ProcessGroup
from closures.training.recipe import SHIPPED
from solver.case.case import load_case
from solver.errors import CaseError, RunFolderError
from tests.losses.recipes import CASES, INTERVAL, recipe, write_case

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests" / "training" / "train_once.py"
ALONE = ProcessGroup(0, 1, torch.device("cpu"))
LESNETS = sorted((SHIPPED / "lesnets").glob("*.toml"))


def own_fields(folder, kind, **fields):
    """Label-free first frames of a small case."""
    drawn = {"trajectories": 3, "frames": 4, "spin_up": 0.2} | fields
    made = recipe(folder, kind)
    table = made.equations.model_copy(update={"fields": type(made.equations.fields)(**drawn)})
    return draw(table, "cpu", folder / "drawn", ALONE)


def write_labels(path, source, **attributes):
    """Fields of ours as a file of trajectories."""
    domain = source.domain
    with h5py.File(path, "w") as file:
        file["t1_fields/velocity"] = source.velocity
        file["dimensions/time"] = source.step * np.arange(source.shape[1])
        for name, line in zip("xyz", domain.lines, strict=True):
            file[f"dimensions/{name}"] = line.points.numpy()
            edges = np.concatenate([[0.0], np.cumsum(line.weights.numpy())]) * line.length + line.start
            file[f"dimensions/{name}_faces"] = edges
            group = file.create_group(f"boundary_conditions/{name}")
            group.attrs["bc_type"] = "PERIODIC" if line.periodic else "WALL"
            group.attrs["associated_dims"] = [name]
        file.attrs.update({"nu": float(source.nu[0]), "filter": "none", "case": "own"} | attributes)
    return path


def test_fields_are_flows_of_our_own_les(tmp_path):
    """Each trajectory is what its simulation does after the spin-up; different seeds, different flows; drawn once."""
    found = own_fields(tmp_path, "channel")
    assert found.shape == (3, 4, 8, 8, 8, 3)
    assert (found.start, found.step) == (0.2, INTERVAL["channel"])
    simulation = teacher(recipe(tmp_path, "channel").equations, "cpu", 1)
    for _ in range(5 + 2):  # the spin-up lasts five steps
        simulation.step()
    grid_points = torch.stack(list(simulation.velocity.centred))[:, :, :, 0]  # x = z = 0 is a point of both grids
    np.testing.assert_allclose(found.velocity[1, 2, 0, :, 0], grid_points[:, 0].T.numpy(), atol=1e-6)
    assert np.abs(found.velocity[0] - found.velocity[1]).max() > 0.05
    stamp = (tmp_path / "drawn" / FILE).stat().st_mtime_ns
    assert own_fields(tmp_path, "channel").sha256 == found.sha256
    assert (tmp_path / "drawn" / FILE).stat().st_mtime_ns == stamp
    with pytest.raises(RunFolderError, match="fields of another case, recipe or data file: choose another --out"):
        own_fields(tmp_path, "channel", frames=3)
    (tmp_path / "drawn" / FILE).write_bytes(b"nothing")
    with pytest.raises(RunFolderError, match="damaged fields"):
        own_fields(tmp_path, "channel")


@pytest.mark.parametrize(("kind", "scheme", "least"), [("box", "runge_kutta", 0.5), ("channel", "midpoint", 0.8)])
def test_loss_falls_without_labels(tmp_path, kind, scheme, least):
    """In 36 steps on three short flows to `least` of what a frozen field has, which is one."""
    made = recipe(tmp_path, kind, loop={"epochs": 12}, loss={"steps": 1})
    made = made.model_copy(update={"equations": made.equations.model_copy(update={"scheme": scheme})})
    found = train(made, tmp_path / "out")
    losses = [row["loss"] for row in found.progress.history]
    assert losses[-1] < least
    assert losses[-1] < 0.8 * losses[0]
    assert found.card.step == INTERVAL[kind]
    assert found.card.role == "surrogate"


def test_continues_to_the_bit_after_a_kill(tmp_path):
    """Killed in the second epoch; the fields are not drawn again."""
    made = recipe(tmp_path, "box", loop={"checkpoint_seconds": 0.0, "epochs": 2})
    train(made, tmp_path / "whole")
    command = [sys.executable, str(SCRIPT), str(tmp_path / "resumed"), made.model_dump_json(), "3"]
    variables = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    killed = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    assert not (tmp_path / "resumed" / artefact.WEIGHTS).exists()
    train(made, tmp_path / "resumed")
    whole, resumed = (load_file(tmp_path / name / artefact.WEIGHTS) for name in ("whole", "resumed"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    (tmp_path / "resumed" / FILE).unlink()
    write_case(tmp_path, "box", CASES["box"].replace("c_s = 0.1", "c_s = 0.2"))
    with pytest.raises(RunFolderError, match="belongs to another recipe, data file or version"):
        train(made, tmp_path / "resumed")


def test_hybrid_and_label_free_read_the_same_file(tmp_path):
    """Labels with a weight, and first frames alone, every other frame of the file."""
    source = own_fields(tmp_path, "box", trajectories=3, frames=5)
    file = write_labels(tmp_path / "own.h5", source)
    common = {"data": {"file": str(file)}, "equations": {"fields": None}, "loop": {"epochs": 8}}
    hybrid = train(recipe(tmp_path, "box", loss={"kind": "hybrid", "data": 5.0, "steps": 1}, **common), tmp_path / "h")
    losses = [row["loss"] for row in hybrid.progress.history]
    assert losses[-1] < 0.6 * losses[0]
    assert hybrid.card.filter == "none"
    labels = {"loss": {"kind": "projected_l2", "steps": 1}}
    labelled = train(recipe(tmp_path, "box", **labels, **common), tmp_path / "labels")
    losses = [row["loss"] for row in labelled.progress.history]
    assert losses[-1] < 0.6 * losses[0]
    again = labels | {"data": {"file": str(file)}, "equations": {"fields": None}}
    further = {"epochs": 1, "begin": str(tmp_path / "labels")}
    begun = train(recipe(tmp_path, "box", **again, loop=further, optimiser={"rate": 1e-6}), tmp_path / "begun")
    weights = [load_file(tmp_path / name / artefact.WEIGHTS) for name in ("labels", "begun")]
    for name, first in weights[0].items():
        torch.testing.assert_close(weights[1][name], first, rtol=0, atol=1e-4)
    assert begun.card.scaling == labelled.card.scaling
    with pytest.raises(CaseError, match=r"\[loop\] begin = .*: its arguments are not those of"):
        train(recipe(tmp_path, "box", **again, loop=further, operator={"width": 4}), tmp_path / "other")
    loss, loop = {"kind": "les_residual", "steps": 2}, {"epochs": 2, "batch": 2}
    equations = {"fields": None, "interval": 0.1, "steps": 2}
    every_other = {"data": {"file": str(file), "stride": 2}, "equations": equations, "loss": loss, "loop": loop}
    alone = train(recipe(tmp_path, "box", **every_other), tmp_path / "alone")
    assert alone.card.step == pytest.approx(0.1)
    assert len(alone.card.data_sha256) == 64


def test_mistakes_are_named(tmp_path):
    def refused(match, error=CaseError, out="out", **changes):
        with pytest.raises(error, match=match):
            train(recipe(tmp_path, "box", **changes), tmp_path / out)

    refused("'les_residual' and 'hybrid' go with a table", ValidationError, loss={"kind": "relative_l2"})
    refused("has no labels: remove it", ValidationError, loss={"kind": "hybrid"})
    for labelled in ({"norm": "plane"}, {"energy": 0.1}):
        refused(r"does nothing with kind = 'les_residual'", ValidationError, loss={"kind": "les_residual"} | labelled)
    refused("give one", ValidationError, equations={"fields": None})
    refused("remove one", ValidationError, data={"file": "x.h5"})
    refused("no such case file", equations={"case": str(tmp_path / "nothing")})
    refused(r"unknown key 'nu_t'", equations={"overrides": ["flow.nu_t=1"]})
    refused(r"needs 3 frames, got 2", equations={"scheme": "central"}, loss={"steps": 1}, out="short")
    refused("unknown name 'dynamic'; did you mean", equations={"overrides": ["closure.name='dynamic'"]}, out="unknown")
    file = write_labels(tmp_path / "own.h5", own_fields(tmp_path, "channel"))
    other = {"data": {"file": str(file)}, "out": "other"}
    refused("has 8 x 8 x 8 points, the data 8 x 8 x 8, or other", equations={"fields": None}, **other)
    file = write_labels(tmp_path / "box.h5", own_fields(tmp_path / "box", "box"))
    refused(
        r"interval = 0.1: the frames of the data are 0.05 apart",
        data={"file": str(file)},
        equations={"fields": None, "interval": 0.1},
        out="apart",
    )


def test_cases_of_these_tests_are_valid(tmp_path):
    for kind in CASES:
        case, folder = load_case(write_case(tmp_path, kind))
        assert case.build_grid().is_box == (kind == "box")
        assert folder.name == f"{kind}_case"


@pytest.mark.parametrize("path", LESNETS, ids=lambda p: p.stem)
def test_shipped_recipes(path):
    """Found by name; the network is built for the directions of the case; all but one are a twentieth of 8.5 GB."""
    found = load_experiment(Path("lesnets") / path.stem)
    assert found.loss.needs_case
    with torch.device("meta"):
        network = build(found.operator.name, **found.operator.arguments)
    table = found.equations
    case, _ = load_case(ROOT / table.case, table.overrides)
    grid = case.build_grid()
    periods = tuple(axis.periodic for axis in grid.axes)
    if found.operator.name.startswith("ifactformer"):
        assert network.walls == periods.count(False)
    else:
        assert network.periodic == periods
    floats = sum(w.numel() for w in network.parameters())
    assert (floats * 4 <= 0.05 * 8.5e9) == (not path.stem.endswith("published_size"))


def test_recipes_of_every_named_flow_are_shipped():
    assert {"hit_decay", "hit_forced", "mixing_layer", "channel180_coarse"} <= {path.stem for path in LESNETS}
