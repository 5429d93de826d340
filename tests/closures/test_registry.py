"""The registry: names, options, and closures of other packages, working or broken."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import numpy as np
import pytest

from closures.operators.artefact import CARD, read_card
from closures.operators.shipped import shipped
from closures.registry import registry
from closures.registry.listing import describe
from solver.case import plugins
from solver.errors import CaseError
from solver.grid.axis import FiniteVolumeAxis, FourierAxis, NoSlip
from solver.grid.grid import Grid


@pytest.fixture
def grid():
    wall = NoSlip()
    y = FiniteVolumeAxis(np.linspace(0.0, 2.0, 9), wall, wall)
    return Grid(FourierAxis(8, 6.0), y, FourierAxis(8, 3.0))


@pytest.fixture
def foreign(monkeypatch, tmp_path: Path):
    """Two closures of another package: one works, the other fails when imported."""
    (tmp_path / "foreign_good.py").write_text(
        "class Good:\n    '''A foreign closure.\n\n    More.'''\n"
        "    name, reach = 'good', 0\n    def __init__(self, *, grid, nu, strength: float = 1.0):\n"
        "        self.strength = strength\n"
        "    def init(self, operators):\n        return {}\n"
        "    def __call__(self, velocity, t, state):\n        return None, state\n"
        "def loose(*, grid, nu, **options):\n    return Good(grid=grid, nu=nu, strength=options)\n"
    )
    (tmp_path / "foreign_bad.py").write_text("raise RuntimeError('no licence file')\n")
    monkeypatch.syspath_prepend(tmp_path)
    points = {"good": "foreign_good:Good", "loose": "foreign_good:loose", "bad": "foreign_bad:Bad"}
    points |= {"wale": "foreign_bad:Wale", "tbnn": "foreign_good:Good"}
    made = [importlib.metadata.EntryPoint(name, value, registry.CLOSURES.group) for name, value in points.items()]
    made.append(importlib.metadata.EntryPoint("twice", "foreign_bad:Twice", registry.CLOSURES.group))
    made.append(importlib.metadata.EntryPoint("twice", "foreign_good:Good", registry.CLOSURES.group))
    monkeypatch.setattr(plugins, "entry_points", lambda group: made if group == registry.CLOSURES.group else [])


def home(name, grid):
    """A grid on which a closure may act: that of its training for operators of boxes, `grid` for all others."""
    folder = shipped().get(name)
    lines = read_card(folder / CARD).grid if folder else None
    if lines is None or not all(line["periodic"] for line in lines.values()):
        return grid
    return Grid(*(FourierAxis(len(line["points"]), line["length"]) for line in lines.values()))


@pytest.mark.slow
def test_every_name_is_described_and_created(grid):
    assert registry.names()[:6] == ["none", "smagorinsky", "dynamic_smagorinsky", "wale", "vreman", "sigma"]
    assert list(describe()) == registry.names()
    for name in registry.names():
        closure = registry.create(name, grid=home(name, grid), nu=1e-3, options={})
        assert closure is None if name == "none" else closure.name == name
        assert "\n" not in describe()[name].summary


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("smagorinski", {}, "unknown name 'smagorinski'; did you mean 'smagorinsky'?"),
        ("qqqq", {}, "unknown name 'qqqq'; one of none, smagorinsky"),
        ("smagorinsky", {"cs": 0.1}, "unknown option 'cs' of 'smagorinsky'; did you mean 'c_s'?"),
        ("smagorinsky", {"c_s": "0.1"}, "c_s = '0.1'"),
        ("smagorinsky", {"c_s": True}, "c_s = True"),
        ("smagorinsky", {"c_s": -1.0}, "greater than or equal to 0"),
        ("smagorinsky", {"damping": "van driest"}, "'van_driest' or 'none'"),
        ("smagorinsky", {"grid": None}, "unknown option 'grid'"),
        ("dynamic_smagorinsky", {"every": 1.5}, "every = 1.5"),
        ("dynamic_smagorinsky", {"averaging": "global"}, "'homogeneous' or 'local'"),
        ("none", {"c_s": 0.1}, "it has no options"),
    ],
)
def test_mistakes_name_the_remedy(grid, name, options, message):
    with pytest.raises(CaseError) as error:
        registry.create(name, grid=grid, nu=1e-3, options=options)
    assert message in str(error.value)
    assert str(error.value).startswith("[closure] ")


def test_options_arrive(grid):
    assert registry.create("smagorinsky", grid=grid, nu=1e-3, options={"c_s": 0.1, "damping": "none"}).c_s == 0.1
    assert registry.create("wale", grid=grid, nu=1e-3, options={"c_w": 1}).c_w == 1


def test_foreign_closures(grid, foreign):
    assert registry.names()[-3:] == ["bad", "good", "loose"]
    lines = describe()
    assert lines["good"].summary == "A foreign closure."
    assert (lines["good"].origin, lines["good"].options) == ("foreign_good", ("strength = 1.0",))
    assert lines["loose"].options == ("any",)
    assert lines["bad"].summary.startswith("broken:")
    assert "no licence file" in lines["bad"].summary
    assert registry.create("good", grid=grid, nu=1.0, options={"strength": 2.0}).closure.strength == 2.0
    assert registry.create("loose", grid=grid, nu=1.0, options={"anything": 1}).closure.strength == {"anything": 1}
    with pytest.raises(CaseError, match="did you mean 'strength'"):
        registry.create("good", grid=grid, nu=1.0, options={"strenght": 2.0})


def test_the_list_shows_the_options_of_every_closure():
    lines = describe()
    assert lines["smagorinsky"].origin == "les-solver"
    assert "c_w = 0.325" in lines["wale"].options
    assert "fallback = 'smagorinsky'" in lines["tbnn"].options


def test_broken_foreign_closure_fails_only_when_asked_for(grid, foreign):
    with pytest.raises(CaseError, match=r"'bad' \(foreign_bad:Bad\) cannot be imported: RuntimeError: no licence file"):
        registry.create("bad", grid=grid, nu=1.0, options={})


def test_a_name_that_stands_for_two_closures_is_refused(grid, foreign):
    """Whoever used it could not tell which one acted."""
    for name, others in (("wale", "les-solver and of foreign_bad"), ("tbnn", "les-solver and of foreign_good")):
        with pytest.raises(CaseError, match=rf"'{name}' is a name of {others} .*: rename the entry point"):
            registry.create(name, grid=grid, nu=1.0, options={})
        assert describe()[name].origin == "refused"
    with pytest.raises(CaseError, match=r"'twice' is a name of foreign_bad .* and of foreign_good"):
        registry.create("twice", grid=grid, nu=1.0)
    assert describe()["twice"].origin == "refused"
    assert registry.create("vreman", grid=grid, nu=1.0).name == "vreman"
