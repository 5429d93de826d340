"""What a case or a recipe names is found from anywhere: beside it first, then in the working directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from closures.training.experiment import load_experiment
from solver.case.case import load_case
from solver.errors import CaseError
from tests.runs import write_case

RECIPE = """
title = "t"
data.file = "waves.h5"
operator = { name = "fno" }
loss.kind = "projected_l2"
equations = { case = "tiny", interval = 0.1 }
loop = { epochs = 1, begin = "net" }
card.trained_on = "waves"
"""


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """The working directory is not that of the case."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "elsewhere"


def test_a_network_beside_the_case_is_found_from_elsewhere(tmp_path, elsewhere):
    case, names = write_case(tmp_path / "tiny"), ("closure.artefact=net", "closure.weights=w.bin")
    for place in (case, elsewhere):
        (place / "net").mkdir()
    (elsewhere / "w.bin").touch()
    options = load_case(case, names, "fno")[0].closure.options
    assert options["artefact"] == str(case / "net")  # not the one in the working directory
    assert options["weights"] == "w.bin"  # which is there
    assert load_case(case, ("closure.artefact=none",), "fno")[0].closure.options["artefact"] == "none"


def test_what_a_recipe_names_is_found_from_elsewhere(tmp_path, elsewhere):
    (tmp_path / "recipe.toml").write_text(RECIPE)
    write_case(tmp_path / "tiny")
    (tmp_path / "waves.h5").touch()
    (elsewhere / "net").mkdir()
    recipe = load_experiment(tmp_path / "recipe.toml")
    assert recipe.data.file == str(tmp_path / "waves.h5")
    assert recipe.equations.case == str(tmp_path / "tiny")
    assert recipe.loop.begin == "net"


@pytest.mark.parametrize("name", ["hit_decay", "cases/hit_decay"])
def test_a_shipped_case_is_found_by_its_name(elsewhere, name):
    assert load_case(Path(name))[1].name == "hit_decay"
    with pytest.raises(CaseError, match="no such case file"):
        load_case(Path("hit_delay"))
