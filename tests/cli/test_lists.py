"""`cases`, `new`, `runs`, `clean` and `watch`: they show what is there, delete what is a run's, and cut no name."""

from __future__ import annotations

import datetime
import io
import json
import math
import os
import re
import socket
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from solver.case.case import load_case
from solver.cli.columns import fitting
from solver.cli.dashboard import costs, numbers, profile, spark, view
from solver.cli.run_list import find, read
from solver.cli.watching import look, seconds_left
from solver.files.catalogue import listed
from tests import runs
from tests.runs import ROOT, solver

SHIPPED = sorted(path.parent.name for path in (ROOT / "cases").glob("*/case.toml"))


def shown(item: object, width: int) -> list[str]:
    page = io.StringIO()
    Console(file=page, width=width, soft_wrap=True).print(item)
    return [text.rstrip() for text in page.getvalue().splitlines()]


# -- tables ---------------------------------------------------------------------------------------------------------


def test_a_table_drops_columns_and_cuts_nothing():
    name = "differential_corrector"
    whole = {"run": "bb", "closure": name, "note": "x" * 30, "t": "1.5"}
    records = [dict.fromkeys(whole, ""), whole]
    keep = ("closure", "run", "t", "note")
    for width in (80, 64, 63, 32, 31, 27, 5):
        lines = shown(fitting(records, keep, width), width)
        assert len(lines) == 3
        assert max(map(len, lines)) <= max(width, len(name))
        assert name in lines[2]
        columns = lines[0].split()
        assert columns == [column for column in records[0] if column in keep[: len(columns)]]
    assert "note" in shown(fitting(records, keep, 64), 64)[0]
    assert shown(fitting(records, keep, 26), 26)[0].split() == ["closure"]


# -- cases and new --------------------------------------------------------------------------------------------------


def test_cases_are_listed():
    rows = {row["case"]: row for row in listed()}
    assert sorted(rows) == SHIPPED
    expected = {
        "channel180": ("channel", "5585"), "duct": ("duct", "5001"), "cavity": ("cavity", "1000"),
        "cylinder": ("solids", "100"), "cube_array": ("solids", "5000"), "taylor_green": ("box", "1600"),
    }  # fmt: skip
    assert {name: (rows[name]["flow"], rows[name]["Re"]) for name in expected} == expected
    assert rows["channel180_coarse"]["grid"] == "32x32x16"
    done = solver("cases")
    assert (done.code, done.err) == (0, "")
    assert [text.split()[0] for text in done.out.splitlines()[1:]] == SHIPPED
    assert max(len(text) for text in shown(fitting(listed(), ("case", "flow", "Re", "grid", "title"), 80), 80)) <= 80


def test_seconds_are_those_recorded():
    seconds = tomllib.loads((ROOT / "cases/seconds.toml").read_text())
    records = json.loads((ROOT / "docs/results/closures.json").read_text())
    for name in seconds.keys() - {"cylinder"}:
        closure = load_case(ROOT / "cases" / name)[0].closure.name
        (found,) = (r for r in records if (r["case"], r["closure"]) == (name, closure))
        assert seconds[name] == round(found["ranks"] * found["wall_seconds"])
    assert f"{seconds['cylinder']} s of one core" in (ROOT / "docs/results/validation.json").read_text()


def test_a_new_case_is_a_copy_with_its_references(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = solver("new", "mine/channel", "--from", "channel180_coarse")
    assert (done.code, done.err) == (0, "")
    assert "solver check mine/channel" in done.out
    (case, folder), (origin, _) = load_case(Path("mine/channel")), load_case(Path("channel180_coarse"))
    assert case == origin
    assert sorted(p.name for p in (folder / "reference").iterdir()) == sorted(
        p.name for p in (ROOT / "cases/channel180_coarse/reference").iterdir()
    )
    text = (folder / "case.toml").read_text()
    assert text.startswith("#:schema ./case.schema.json\n")
    assert (folder / "case.schema.json").is_file()
    again = solver("new", "twice", "--from", "mine/channel")
    assert again.code == 0
    assert Path("twice/case.toml").read_text() == text
    before = sorted(folder.rglob("*"))
    refused = solver("new", "mine/channel", "--from", "cavity")
    assert refused.code == 2
    assert refused.err == "solver: mine/channel: exists: choose another name, or remove it first\n"
    assert sorted(folder.rglob("*")) == before
    assert solver("new", "other", "--from", "chanel180").err.endswith("did you mean 'channel180'?\n")
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("mine", "twice")] == []


# -- runs and clean -------------------------------------------------------------------------------------------------


def run_folder(path: Path, closure: str, status: str | None, **summary: object) -> Path:
    """What a run leaves, as far as lists look at it."""
    path.mkdir(parents=True)
    (path / "provenance.json").write_text(json.dumps({"case": "tiny"}))
    (path / "case.toml").write_text(runs.CASE.replace("dynamic_smagorinsky", closure).replace("every = 2\n", "", 1))
    (path / "timeseries.csv").write_text("step,time,u_tau\n0,0,0.1\n30,0.75,0.0625\n40,0.9")
    if status is not None:
        (path / "summary.json").write_text(json.dumps({"status": status, "time": 9.0, "steps": 90} | summary))
    return path


def owned(folder: Path, pid: int) -> None:
    (folder / "run.lock").write_text(json.dumps({"host": socket.gethostname(), "pid": pid}))


def dead_process() -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Runs of every sort, and what is none."""
    errors = {"reference": "MKM180", "u_mean": 0.0123, "c_f": -0.04}
    run_folder(tmp_path / "a_done", "wale", "finished", errors=errors)
    run_folder(tmp_path / "b_broken", "none", "diverged", time=0.25)
    run_folder(tmp_path / "c_killed", "vreman", None)
    kept = run_folder(tmp_path / "d_to_go_on", "sigma", None)
    (kept / "checkpoints").mkdir()
    (kept / "checkpoints/step_00000030.h5").touch()
    owned(run_folder(tmp_path / "e_at_work", "differential_corrector", None), os.getpid())
    owned(run_folder(tmp_path / "f_stale", "none", None), dead_process())
    (run_folder(tmp_path / "g_damaged", "none", "finished") / "summary.json").write_text("{")
    (tmp_path / "h_nothing").mkdir()
    (tmp_path / "i_mine").mkdir()
    (tmp_path / "i_mine/case.toml").write_text(runs.CASE)
    (tmp_path / "j.txt").touch()
    return tmp_path


STATUS = {
    "a_done": "finished", "b_broken": "diverged", "c_killed": "not ended", "d_to_go_on": "not ended",
    "e_at_work": "running", "f_stale": "not ended", "g_damaged": "damaged",
}  # fmt: skip


def test_runs_are_listed(folder):
    found = {run.folder.name: run for run in find(folder)}
    assert {name: run.status for name, run in found.items()} == STATUS
    assert found["c_killed"].time == 0.75  # of the last row that is whole
    assert found["e_at_work"].row()["t"] == "0.75/9"
    assert found["a_done"].row() | {"steps": ""} == {
        "run": "a_done", "case": "tiny", "closure": "wale", "status": "finished", "t": "9/9", "steps": "",
        "U %": "1.2", "C_f %": "-4.0", "against": "MKM180",
    }  # fmt: skip
    done = solver("runs", folder)
    assert (done.code, done.err) == (0, "")
    assert [text.split()[0] for text in done.out.splitlines()[1:]] == list(STATUS)
    assert "differential_corrector" in done.out
    assert solver("runs", folder / "h_nothing").out == f"{folder / 'h_nothing'}: no runs in it\n"
    assert solver("runs", folder / "k").code == 2


@pytest.mark.parametrize("name", ["summary.json", "provenance.json", "case.toml", "timeseries.csv", "run.lock"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[1]", b'{"time": {"end": []}, "status": 3}', b"a,b\n1\n"])
def test_whatever_a_file_holds_the_run_is_listed(tmp_path, name, content):
    run = run_folder(tmp_path / "run", "wale", "finished")
    (run / name).write_bytes(content)
    assert read(run).row()["run"] == "run"
    assert look(run).share <= 1


def test_clean_takes_what_is_worthless_and_asks(folder):
    everything = sorted(folder.rglob("*"))
    asked = solver("clean", folder)
    assert asked.code == 0
    named = [Path(text.partition(":")[0]).name for text in asked.out.splitlines()[:-1]]
    assert named == ["b_broken", "c_killed", "f_stale"]
    assert "delete 3 runs" in asked.out
    assert sorted(folder.rglob("*")) == everything
    (folder / "b_broken/notes.txt").write_text("mine")
    assert solver("clean", folder, "--yes").out.endswith("deleted 3 of 3\n")
    left = {path.name for path in folder.iterdir()}
    assert left == {"a_done", "b_broken", "d_to_go_on", "e_at_work", "g_damaged", "h_nothing", "i_mine", "j.txt"}
    assert [path.name for path in (folder / "b_broken").iterdir()] == ["notes.txt"]
    assert solver("clean", folder).out == "nothing to delete\n"


def test_clean_never_takes_a_run_at_work_nor_what_is_no_run(folder):
    kept = {"e_at_work", "h_nothing", "i_mine", "j.txt"}
    before = {p: p.read_bytes() for name in kept for p in (folder / name).rglob("*") if p.is_file()}
    assert solver("clean", folder, folder / "e_at_work", "--all", "--yes").out.endswith("deleted 6 of 6\n")
    assert {path.name for path in folder.iterdir()} == kept
    assert {p: p.read_bytes() for p in before} == before


def test_clean_takes_the_copies_of_references_too(tmp_path):
    run = run_folder(tmp_path / "run", "wale", "diverged")
    outside = tmp_path / "outside.csv"
    outside.touch()
    with (run / "case.toml").open("a") as file:
        file.write("[reference]\nname = 'r'\nprofiles = 'reference/p.csv'\ndissipation = '../outside.csv'\n")
    (run / "reference").mkdir()
    (run / "reference/p.csv").touch()
    assert solver("clean", run, "--yes").code == 0
    assert list(tmp_path.iterdir()) == [outside]


# -- watch ----------------------------------------------------------------------------------------------------------


def test_watch_shows_the_profile_that_the_run_ends_with(tmp_path):
    case = runs.write_case(tmp_path)
    words = ("--set", "statistics.start=0", "--set", "statistics.every_steps=1", "--steps", 7, "--quiet")
    assert solver("run", case, "--out", tmp_path / "run", *words).code == 0
    table = np.genfromtxt(tmp_path / "run/profiles.csv", delimiter=",", names=True)
    seen = look(tmp_path / "run")
    np.testing.assert_allclose(seen.profile.u_plus, table["u_plus"], rtol=1e-9)
    np.testing.assert_allclose(seen.profile.y_plus, table["y_plus"], rtol=1e-9)
    assert np.isnan(seen.profile.reference).all()
    done = solver("watch", tmp_path / "run", "--once")
    assert (done.code, done.err) == (0, "")
    assert "stopped at step 7" in done.out
    assert "milliseconds a step: " in done.out
    for y, u in zip(table["y_plus"][[0, -1]], table["u_plus"][[0, -1]], strict=True):
        assert re.search(rf"^ *{y:.1f} +{u:.2f} *$", done.out, flags=re.MULTILINE)
    assert done.out.splitlines()[-1].endswith(f"go on: solver run {tmp_path / 'run'} --restart {tmp_path / 'run'}")
    for made in (numbers(seen.history, 50, "utf-8"), profile(seen.profile, 50)):
        assert 10 < max(len(text) for text in shown(made, 50)) <= 50
    assert view(seen, Console(width=50, force_terminal=True)) is not None


def test_watch_ends_when_the_run_ends(tmp_path):
    case = runs.write_case(tmp_path)
    process = runs.forked("run", case, "--out", tmp_path / "run", "--steps", 60, "--quiet")
    while not (tmp_path / "run/timeseries.csv").is_file():
        assert process.is_alive()
        time.sleep(0.05)
    done = solver("watch", tmp_path / "run", "--every", 0.1)
    process.join()
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("running  ")
    assert done.out.splitlines()[-1].startswith("finished at t = 9; ")


def test_watch_wants_a_run(tmp_path):
    wrong = solver("watch", tmp_path)
    assert wrong.code == 2
    assert "no run folder" in wrong.err


def test_time_left_is_that_of_the_log_less_what_has_passed(tmp_path):
    assert math.isnan(seconds_left(tmp_path, datetime.datetime.now()))
    (tmp_path / "log.txt").write_text(
        "2026-03-01 10:00:00,123 INFO  10 %  step 5  t 0.1/1  dt 1e-2 (cfl)  900 s left\n"
        "2026-03-01 10:01:00,123 INFO  20 %  step 9  t 0.2/1  dt 1e-2 (cfl)  240 s left\n"
        "2026-03-01 10:01:30,123 INFO wrote a checkpoint\n"
    )
    assert seconds_left(tmp_path, datetime.datetime(2026, 3, 1, 10, 2, 0)) == pytest.approx(180)
    assert seconds_left(tmp_path, datetime.datetime(2026, 3, 1, 11, 2, 0)) == 0


def test_the_cost_of_a_step_is_whole_in_any_width():
    parts = {"pressure": 3.0, "momentum": 20.0, "closure": 7.0}
    assert costs(parts, 80) == "milliseconds a step: momentum 20, closure 7, pressure 3"
    assert costs(parts, 50) == "milliseconds a step: momentum 20, the rest 10"
    assert costs(parts, 10) == "milliseconds a step: 30"


def test_a_history_in_bars_goes_from_the_least_to_the_most():
    assert spark([0.0, 1.0, math.nan, 2.0], "abc") == "abc"
    assert spark([5.0, 5.0]) == "▁▁"
    assert spark([math.nan]) == ""
    assert len(spark(list(range(1000)))) == 32
