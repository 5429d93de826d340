"""Runs whose flows are advanced as one are the runs that they are by themselves."""

from __future__ import annotations

import csv
import io
import itertools
import json
import sys

import numpy as np
import pytest

from closures.compare import jobs
from solver.run import together
from tests import runs

SEEDS = (73_311, 51_413, 90_125)
SHORT = ("time.end=6.0", "statistics.start=1.0", "output.every_steps=1")


def columns(folder):
    """The time series of a run, what the clock says left out."""
    with (folder / "timeseries.csv").open() as file:
        rows = list(csv.DictReader(file))
    return np.array([[float(v) for key, v in row.items() if "seconds" not in key] for row in rows])


def given(case, out, closure="wale", seeds=SEEDS):
    """What `solver.run.together` reads."""
    return [[str(case), closure, [*SHORT, f"initial.seed={seed}"], str(out / str(seed))] for seed in seeds]


def ended(monkeypatch, described):
    """Its exit code."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(described)))
    with runs.command_line("together"):
        return together.main()


def test_each_run_is_that_by_itself(tmp_path, monkeypatch):
    """Time series, averages, end and log; steps differ in length, and runs in their number."""
    case = runs.write_case(tmp_path / "case")
    described = given(case, tmp_path / "together")
    assert ended(monkeypatch, described) == 0
    for _, closure, sets, out in described:
        alone, words = tmp_path / "alone" / out[-5:], [word for s in sets for word in ("--set", s)]
        assert runs.solver("run", case, "--closure", closure, *words, "--out", alone, "--quiet").code == 0
        folder = tmp_path / "together" / alone.name
        one, other = columns(folder), columns(alone)
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-10)
        assert [runs.summary(f)["status"] for f in (folder, alone)] == ["finished"] * 2
        assert runs.summary(folder)["time"] == pytest.approx(6.0)
        tables = [np.genfromtxt(f / "profiles.csv", delimiter=",", skip_header=1) for f in (folder, alone)]
        np.testing.assert_allclose(*tables, rtol=1e-7, atol=1e-9)
        log = (folder / "log.txt").read_text()
        assert [str(seed) in log for seed in SEEDS] == [str(seed) == alone.name for seed in SEEDS]
    assert len({len(columns(tmp_path / "together" / str(seed))) for seed in SEEDS}) > 1


def test_one_that_fails_stops_no_other(tmp_path, monkeypatch, capsys):
    """A folder that cannot be written is named; flows on two grids go one by one, and both come to their end."""
    described = given(runs.write_case(tmp_path / "case"), tmp_path)
    (tmp_path / "file").write_text("in the way")
    described[0][3] = str(tmp_path / "file" / "run")
    described[1][2].append("grid.y.n=8")
    assert ended(monkeypatch, described) == 1
    folder, reason = capsys.readouterr().out.strip().split("\t")
    assert folder == described[0][3]
    assert "cannot be written" in reason
    assert [runs.summary(tmp_path / str(seed))["status"] for seed in SEEDS[1:]] == ["finished"] * 2


@pytest.mark.parametrize(("workers", "sizes"), [(1, [4, 4]), (2, [4, 4]), (4, [2, 2, 2, 2]), (8, [1] * 8)])
def test_jobs_share_processes_where_cores_would_have_to_wait(tmp_path, workers, sizes):
    case = runs.write_case(tmp_path / "case")
    every = [
        jobs.plan(case, closure, (f"initial.seed={seed}",))
        for closure, seed in itertools.product(("none", "wale"), range(4))
    ]
    found = jobs.groups(every, workers)
    assert [len(group) for group in found] == sizes
    assert [job for group in found for job in group] == every
    assert all(len({job.closure for job in group}) == 1 for group in found)


def test_large_flows_go_alone(tmp_path):
    case = runs.write_case(tmp_path / "case")
    wide = ("grid.x.n=64", "grid.y.n=64", "grid.z.n=64")
    every = [jobs.plan(case, "none", (*wide, f"initial.seed={seed}")) for seed in range(3)]
    assert [len(group) for group in jobs.groups(every, 1)] == [1, 1, 1]
