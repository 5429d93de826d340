"""Networks and losses of other packages: trained, saved, loaded and put into a flow, or refused by name."""

from __future__ import annotations

import importlib.metadata

import pytest
import torch

from closures.operators import artefact, build
from closures.operators.artefact import CARD, ArtefactError
from closures.operators.registry import names
from closures.training.experiment import train
from closures.training.tables import OperatorTable
from solver.case import plugins
from solver.errors import CaseError
from solver.files.folder import to_toml
from tests import runs
from tests.coupling.flows import channel, closure, flow, write
from tests.training import own_package
from tests.training.trajectories import small_recipe, write_file


@pytest.fixture(autouse=True)
def package(monkeypatch):
    """The package is installed, as far as we can tell."""
    declared = {
        group: [importlib.metadata.EntryPoint(n, f"{own_package.__name__}:{v}", group) for n, v in points.items()]
        for group, points in own_package.POINTS.items()
    }
    declared["solver.operators"] = [p for p in declared["solver.operators"] if p.name != "fno"]
    monkeypatch.setattr(plugins, "entry_points", lambda group: declared.get(group, []))
    return declared


def test_a_network_and_a_loss_of_ones_own_are_trained_and_loaded(tmp_path):
    """By the command line, from a recipe that names both; the loss falls, and the loaded network answers the same."""
    file = write_file(tmp_path / "waves.h5")
    recipe = small_recipe(file, loss={"kind": "largest"}, loop={"epochs": 3, "batch": 2})
    recipe = recipe.model_copy(update={"operator": OperatorTable(name="mixing", width=5)})
    (tmp_path / "own.toml").write_text(to_toml(recipe.model_dump(exclude_none=True)))
    done = runs.solver("train", tmp_path / "own.toml", "--out", tmp_path / "net", "--quiet")
    assert (done.code, done.err) == (0, "")
    history = (tmp_path / "net/history.csv").read_text().splitlines()
    column = history[0].split(",").index("loss")
    losses = [float(row.split(",")[column]) for row in history[1:]]
    assert losses[-1] < losses[0]
    loaded = artefact.load(tmp_path / "net")
    assert (loaded.card.architecture, loaded.card.arguments["width"]) == ("mixing", 5)
    assert loaded.card.package == own_package.__name__
    assert not loaded.network.gain.is_meta


def test_it_acts_in_a_flow(tmp_path):
    grid = channel()
    folder = write(tmp_path, "mixing", grid, network=build("mixing", width=3), arguments={"width": 3})
    with torch.no_grad():
        acted = flow(grid, closure("mixing", folder, grid, base="none", every=1))
        acted.step()
    assert acted.closure_state["guard"].tolist() == [0, 0, 0]
    assert acted.closure.facts["package"] == own_package.__name__


def test_a_network_whose_package_is_gone_says_which(tmp_path, monkeypatch):
    folder = write(tmp_path, "mixing", channel(), network=build("mixing"), arguments={"width": 4})
    monkeypatch.setattr(plugins, "entry_points", lambda group: [])
    with pytest.raises(ArtefactError, match=rf"{CARD}: the architecture 'mixing' is that of the package .*: install"):
        artefact.load(folder)


def test_what_is_no_network_or_no_loss_is_refused(tmp_path, package):
    assert "mixing" in names()
    with pytest.raises(CaseError, match=r"'kindless' .*: its class attribute 'kind' should be one of state, stress"):
        build("kindless")
    with pytest.raises(CaseError, match=r"'farsighted' .*: reach = -1 should be a number of planes or 'global'"):
        build("farsighted")
    with pytest.raises(CaseError, match=r"'mixing'.*width"):
        build("mixing", width="wide")
    file = write_file(tmp_path / "waves.h5")
    with pytest.raises(CaseError, match=r"\[loss\] 'scalar' .* gives \(\), expected one number a sample, \(2,\)"):
        train(small_recipe(file, loss={"kind": "scalar"}, loop={"epochs": 1, "batch": 2}), tmp_path / "out")
    with pytest.raises(ValueError, match=r"unknown loss 'smallest'; one of relative_l2, .*, largest, scalar, proj"):
        small_recipe(file, loss={"kind": "smallest"})
    package["solver.operators"] += [importlib.metadata.EntryPoint("fno", f"{own_package.__name__}:Mixing", "g")]
    with pytest.raises(CaseError, match=r"'fno' is a name of les-solver and of tests.training.own_package"):
        build("fno")
