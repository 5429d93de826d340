"""The benchmark of pressure solvers: systems as a flow asks for them, every method on them, the page of its numbers."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from closures.pressure_nets.assemble import folders
from solver.cli.benchmarks import pressure
from solver.cli.benchmarks.pressure_methods import IN_SEQUENCE
from solver.cli.benchmarks.pressure_sequence import measure_sequence, record
from solver.errors import CaseError
from solver.run.build import learned_in
from tests.bench_pages import load

ROOT = Path(__file__).parents[2]
SMALL = ("grid.x.n=48", "grid.y.n=40", "grid.x.growth=1.2", "grid.y.growth=1.3")


@pytest.fixture(scope="module")
def recorded():
    with torch.no_grad():
        return record(ROOT / "cases/cylinder", 7, torch.device("cpu"), SMALL)


def test_guesses_are_the_last_pressure_times_the_length_of_the_stage(recorded):
    """Of the third-order Runge-Kutta scheme: stages of 1/4, 2/3 - 1/4 ... of a step that hardly changes."""
    assert len(recorded.sources) == len(recorded.scales) == 7
    assert recorded.scales[1] == pytest.approx(recorded.scales[4], rel=1e-9)
    assert recorded.scales[2] == pytest.approx(recorded.scales[5], rel=1e-9)
    whole = recorded.scales[1] * recorded.scales[2] * recorded.scales[3]
    assert whole == pytest.approx(1.0, abs=0.2)  # a step later: the ratio of two steps


@pytest.mark.parametrize("method", [*IN_SEQUENCE, "direct", "learned:multigrid"])
def test_every_method_solves_the_sequence_or_says_why_not(recorded, method):
    row = measure_sequence(recorded, "cylinder", method, 1e-7, learned_in(Path()))
    if row["reason"].startswith("not here"):
        without = "+" in method and importlib.util.find_spec("petsc4py") is None
        assert without or method in ("direct", "learned:multigrid")  # solids, and stretched cells
        return
    assert row["systems"] == 7
    assert 0 < row["residual"] < 2e-7
    assert row["iterations"] >= 7


def test_the_table_has_learned_methods_and_names_what_it_does_not_know(tmp_path, capsys):
    file = tmp_path / "rows.json"
    arguments = ((1e-6,), torch.device("cpu"), 1, file, learned_in(Path()), ["multigrid"])
    rows = pressure.run(["sphere"], [16], (), *arguments)
    assert "multigrid" in folders()
    assert {r["method"] for r in rows} == {*pressure.METHODS, "learned:multigrid"}
    assert all(r["residual"] < 1e-5 for r in rows if "residual" in r)
    assert json.loads(file.read_text())["rows"] == rows
    assert "learned:multigrid" in capsys.readouterr().out
    for problems, methods, words in (
        (["spheres"], (), "problem 'spheres': should be one of cube, .*cylinder"),
        (["cube"], ("recycled+amg",), None),
        (["cube"], ("learned:nothing",), None),
    ):
        if words:
            with pytest.raises(CaseError, match=words):
                pressure.run(problems, [8], methods, *arguments)
        else:
            (row,) = pressure.run(problems, [8], methods, *arguments)
            assert row["reason"].startswith("not here: ")


@pytest.fixture(scope="module")
def page():
    """``bench/linear.py``, which is no module of the packages."""
    return load("linear")


@pytest.fixture(scope="module")
def records():
    return json.loads((ROOT / "bench/linear.json").read_text())


def test_the_page_is_the_numbers(page, records):
    assert (ROOT / "bench/linear.md").read_text() == page.table(records)
    assert {r["problem"] for r in records} >= {"cylinder", "cube"}


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_direct_solver_is_asked_where_there_are_no_bodies(page, ranks):
    asked = {p: {m for c in page.cells([p], [ranks]) for m in c[2]} for p in page.NOISE}
    assert {p for p, methods in asked.items() if "direct" in methods} == {"cube"}
    assert "cg+direct" not in asked["cube"]  # one iteration of the answer itself
    assert asked["cube"] - {"direct"} <= asked["sphere"] == asked["cube_array"]


def test_the_page_has_the_direct_solver_in_the_empty_cube(page, records):
    """Exact to round-off at every tolerance, and a row of numbers, not a failure."""
    direct = [r for r in records if r["method"] == "direct"]
    assert {(r["problem"], r["n"], r["ranks"]) for r in direct} == {("cube", n, k) for n in (64, 128) for k in (1, 2)}
    assert max(r["residual"] for r in direct) < 1e-12
    assert page.table(direct).count("| direct | 1 |") == len(direct)
