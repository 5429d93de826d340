"""Costs: measured alone, never beside other runs, or said to be unknown."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from closures.compare import compare, timing
from closures.compare.cost import cost_of
from closures.compare.runs import Run, group, read
from tests import runs
from tests.compare.ensembles import write_run
from tests.compare.test_campaign import BOX

SHARED = 3600.0  # seconds a step, as a run might find beside many others


@pytest.fixture
def pair(tmp_path: Path) -> list[Run]:
    """Two short runs that took their time beside others."""
    (tmp_path / "case.toml").write_text(BOX.replace('[reference]\nname = "spectral"\ndissipation = "table.csv"\n', ""))
    found = []
    for closure in ("none", "smagorinsky"):
        out = tmp_path / closure
        done = runs.solver("run", tmp_path, "--closure", closure, "--out", out, "--set", "time.end=0.2", "--quiet")
        assert done.code == 0, done.err
        summary = json.loads((out / "summary.json").read_text())
        (out / "summary.json").write_text(json.dumps(summary | {"seconds_per_step": SHARED}))
        timing.mark_shared(out)
        found.append(read(out))
    return found


def test_what_a_run_took_beside_others_is_no_cost(pair):
    known = [timing.as_stored(run) for run in pair]
    cost = cost_of(group(known)[0], 1.0)
    assert math.isnan(cost.seconds_per_step)
    assert math.isnan(cost.core_seconds_per_unit)
    assert math.isnan(cost.closure_share)


def test_closures_are_timed_alone_from_their_last_checkpoint(pair, monkeypatch):
    monkeypatch.setattr(timing, "BLOCK", 4)
    before = [sorted(path.name for path in (run.folder / "checkpoints").iterdir()) for run in pair]
    timed = timing.timed_alone(pair)
    none, model = (run.summary for run in timed)
    assert 0 < none["seconds_per_step"] < SHARED
    assert none["closure_fraction"] == 0 < model["closure_fraction"] < 1
    assert [timing.as_stored(run).summary["seconds_per_step"] for run in pair] == [
        run.summary["seconds_per_step"] for run in timed
    ]
    assert [run.summary["steps"] for run in timed] == [run.summary["steps"] for run in pair]
    assert [sorted(path.name for path in (run.folder / "checkpoints").iterdir()) for run in pair] == before


def test_a_closure_that_cannot_be_timed_costs_no_comparison(pair, caplog):
    for path in (pair[1].folder / "checkpoints").iterdir():
        path.unlink()
    none, model = timing.timed_alone(pair)
    assert none.summary["seconds_per_step"] > 0
    assert math.isnan(model.summary["seconds_per_step"])
    assert "its cost is not measured" in caplog.text


def test_a_report_says_what_was_not_measured(tmp_path):
    folders = [write_run(tmp_path / "a", "none", 5), write_run(tmp_path / "b", "wale", 5)]
    timing.mark_shared(folders[1])
    page = io.StringIO()
    out = compare(folders, out=tmp_path / "report", console=Console(file=page, width=400))
    rows = json.loads((out / "report.json").read_text())["rows"]
    assert rows[0]["cost"]["seconds_per_step"] == 0.01
    assert rows[1]["cost"]["seconds_per_step"] is None
    assert "not measured" in (out / "report.html").read_text()
    assert "not measured" in page.getvalue()
