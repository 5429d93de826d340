"""The front: error against cost over grids, each closure timed again, and read off between the grids."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from closures.compare import compare, timing
from closures.compare import front as fronts
from closures.compare.front import Point, at_cost, front, points_of
from closures.compare.runs import read
from solver.errors import CaseError
from tests import runs
from tests.compare.ensembles import write_run

STEP = {"none": 0.02, "wale": 0.03}  # seconds, found when timed again


def report(folder: Path, overrides: tuple[str, ...], bias: float) -> Path:
    """A report of two closures on one grid."""
    given = {"none": {"uv": bias}, "wale": {"uv": 0.5 * bias}}
    made = [write_run(folder / name, name, 5, given[name], overrides=overrides) for name in given]
    return compare(made, out=folder / "report", console=Console(file=io.StringIO(), width=400))


@pytest.fixture(scope="module")
def reports(tmp_path_factory) -> list[Path]:
    """Of two grids."""
    folder = tmp_path_factory.mktemp("front")
    return [report(folder / "fine", ("grid.x.n=48", "grid.z.n=24"), 0.1), report(folder / "coarse", (), 0.4)]


def test_between_grids_an_error_is_read_off_along_a_power_law():
    line = [Point("a", "none", cost, {"uv": {"value": 3.0 * cost**-0.7}}) for cost in (8.0, 1.0)]
    other = [Point("a", "wale", 2.0, {"uv": {"value": 1.0}})]
    assert at_cost(line + other, "none", "uv", 3.7) == pytest.approx(3.0 * 3.7**-0.7, rel=1e-12)
    assert math.isnan(at_cost(line, "none", "uv", 9.0))
    assert math.isnan(at_cost(other, "wale", "uv", 2.1))
    untimed = Point("b", "none", math.nan, {"uv": {"value": 1.0}}), Point("c", "none", 2.0, {"uv": {"value": math.nan}})
    assert at_cost([*untimed, *line], "none", "uv", 3.7) == at_cost(line, "none", "uv", 3.7)
    assert math.isnan(at_cost(other, "none", "uv", 2.0))  # the baseline was lost on every grid


def test_a_cost_is_what_was_timed_now_times_the_steps_that_a_unit_takes(reports):
    records = [json.loads((folder / "report.json").read_text()) for folder in reports]
    timed = [read(Path(row["folders"][0])) for record in records for row in record["rows"]]
    timed = [replace(run, summary=run.summary | {"seconds_per_step": STEP[run.summary["closure"]]}) for run in timed]
    points = points_of(records, timed)
    unit = 4200 / 180  # h/u_tau in time units of the case, at the friction of the reference
    for point in points:
        assert point.core_seconds == pytest.approx(STEP[point.label] * 4000 / 600 * unit, rel=0.02)
    given = [row["errors"] for record in records for row in record["rows"]]
    assert [p.errors["c_f"] for p in points] == [errors["c_f"] for errors in given]


def test_a_front_is_drawn_and_kept(reports, tmp_path, monkeypatch):
    page = io.StringIO()
    monkeypatch.setattr(fronts, "timed_alone", lambda found: found)
    out = front(reports, tmp_path / "front", Console(file=page, width=400))
    kept = json.loads((out / "front.json").read_text())
    assert [point["label"] for point in kept["points"]] == ["none", "wale"] * 2
    assert kept["baseline"] == "none"
    assert [q["key"] for q in kept["quantities"]] == ["c_f"]  # of a finer grid there is no more
    assert "none at this cost" in page.getvalue()
    with Image.open(out / "front.png") as image:
        assert len(image.convert("RGB").getcolors(10**6)) > 100


def test_closures_of_several_grids_are_told_apart(reports):
    keys = {timing._key(run) for report in reports for run in _runs(report)}
    assert len(keys) == 4


def _runs(folder: Path):
    return [read(Path(row["folders"][0])) for row in json.loads((folder / "report.json").read_text())["rows"]]


def test_reports_of_several_flows_have_no_front(reports, tmp_path):
    record = json.loads((reports[1] / "report.json").read_text())
    (tmp_path / "report.json").write_text(json.dumps(record | {"baseline": "wale"}))
    with pytest.raises(CaseError, match="baseline 'wale', not 'none'"):
        front([reports[0], tmp_path])
    with pytest.raises(CaseError, match="two or more grids"):
        front(reports[:1])
    with pytest.raises(CaseError, match="no report of `solver compare`"):
        front([reports[0], tmp_path / "none"])
    (tmp_path / "report.json").write_text("[]")
    with pytest.raises(CaseError, match="no report of `solver compare`"):
        front([reports[0], tmp_path])


def test_the_command_takes_reports_and_nothing_that_makes_runs(reports):
    done = runs.solver("compare", "--front", *reports, "--seeds", 3)
    assert done.code == 2
    assert "compare --front: it takes reports and --out" in done.err
