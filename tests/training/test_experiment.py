"""Experiments as values: every kind from one reader, keys from the command line, one identity to go on with."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from closures.linear_families.recipe import load_recipe
from closures.operators import artefact
from closures.training.experiment import KINDS, Experiment, kind_of, load_experiment, train
from closures.training.recipe import shipped
from solver.errors import CaseError
from solver.files.folder import to_toml
from tests import runs
from tests.training.trajectories import small_recipe, write_file


def test_every_shipped_recipe_is_one_of_the_union():
    found = {name: load_experiment(Path(name)) for name in shipped()}
    assert {kind_of(e) for e in found.values()} == set(KINDS) - {"solver"}
    for experiment in found.values():
        assert TypeAdapter(Experiment).validate_python(experiment.model_dump()) == experiment


def test_keys_are_set_from_the_command_line(tmp_path):
    """They are in the card and in the recipe that is kept; a training goes on with the same keys alone."""
    recipe = small_recipe(write_file(tmp_path / "waves.h5"))
    (tmp_path / "r.toml").write_text(to_toml(recipe.model_dump(exclude_none=True)))
    command = ("train", tmp_path / "r.toml", "--out", tmp_path / "net", "--quiet", "--set", "loop.epochs=1")
    wider = runs.solver(*command, "--set", "operator.width=5")
    assert (wider.code, wider.err) == (0, "")
    assert artefact.load(tmp_path / "net").card.arguments["width"] == 5
    kept = tomllib.loads((tmp_path / "net/recipe.toml").read_text())
    assert (kept["operator"]["width"], kept["loop"]["epochs"]) == (5, 1)
    other = runs.solver(*command, "--set", "operator.width=6")
    assert other.code == 2
    assert "another" in other.err
    wrong = runs.solver(*command, "--set", "loop.epoch=2")
    assert "[loop] unknown key 'epoch'; did you mean 'epochs'" in wrong.err


def test_keys_of_data_sets_are_set_as_well():
    found = load_recipe(Path("darcy_100"), overrides=("samples=3", "seed=11"))
    assert (found.samples, found.seed) == (3, 11)
    with pytest.raises(CaseError, match="'samples' is a value, not a table"):
        load_recipe(Path("darcy_100"), overrides=("samples.x=3",))


def test_a_file_is_refused_where_nothing_reads_it(tmp_path):
    with pytest.raises(CaseError, match=r"--data waves\.h5: this recipe learns from matrices"):
        train(Path("multigrid"), tmp_path, Path("waves.h5"))
