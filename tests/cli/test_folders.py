"""Run folders: nothing finished is lost, one process writes one, and a restart does what it says or is refused."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from solver.cli import train
from solver.errors import RunFolderError
from solver.files import lock
from tests import runs
from tests.data.flows import BOX
from tests.kill_runs import DATA, TRAINING

QUIET = ("--quiet", "--set", "time.end=2", "--set", "statistics.start=0.5")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A case folder with a finished run in it, and a file of the user's in that."""
    case = runs.write_case(tmp_path_factory.mktemp("finished"))
    assert runs.solver("run", case, "--out", case / "run", *QUIET).code == 0
    (case / "run/notes.txt").write_text("mine")
    return case


@pytest.fixture
def case(finished: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copytree(finished, tmp_path / "case"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(done: runs.Ended, *words: str) -> None:
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), done.err
    for word in words:
        assert word in done.err


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + runs.PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("more", [(), ("--steps", 2), ("--set", "flow.nu=0.01")])
def test_the_same_command_again_leaves_a_run_alone(case, more):
    before = contents(case / "run")
    refused(runs.solver("run", case, "--out", case / "run", *QUIET, *more), "holds a run", "t = 2", "--overwrite")
    assert contents(case / "run") == before


def test_without_out_too(tmp_path, monkeypatch):
    """A trial of a few steps belongs in the same folder as the run."""
    monkeypatch.chdir(tmp_path)
    case = runs.write_case(tmp_path / "case")
    assert runs.solver("run", case, *QUIET).code == 0
    (run,) = (tmp_path / "runs").iterdir()
    before = contents(run)
    refused(runs.solver("run", case, *QUIET, "--steps", 1), "holds a run", run.name)
    assert contents(run) == before


def test_overwrite_replaces_what_the_run_wrote_and_nothing_else(case):
    assert runs.solver("run", case, "--out", case / "run", *QUIET, "--steps", 1, "--overwrite").code == 0
    assert runs.summary(case / "run")["steps"] == 1
    assert not (case / "run/profiles.csv").exists()
    assert (case / "run/notes.txt").read_text() == "mine"
    (case / "run/provenance.json").unlink()
    refused(runs.solver("run", case, "--out", case / "run", *QUIET, "--overwrite"), "is not a run folder")


def test_a_folder_stays_a_run_s_while_its_run_is_replaced(case, monkeypatch):
    """Killed between the end of the old files and the first of the new ones, it can be used again."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("solver.files.folder.write_json", stop)
        assert runs.solver("run", case, "--out", case / "run", *QUIET, "--overwrite").code == 130
    assert not (case / "run/checkpoints").exists()
    assert runs.solver("run", case, "--out", case / "run", *QUIET).code == 0
    assert (case / "run/notes.txt").read_text() == "mine"


def test_a_trial_is_not_a_finished_run(case):
    """Neither by its word nor for `--restart auto`, which takes it to its end; its exit code is that of success."""
    trial = case / "trial"
    assert runs.solver("run", case, "--out", trial, *QUIET, "--steps", 2).code == 0
    assert runs.summary(trial)["status"] == "stopped"
    assert runs.solver("run", case, "--out", trial, *QUIET, "--restart", "auto").code == 0
    assert runs.summary(trial)["status"] == "finished"
    runs.assert_same([runs.checkpoints(case / "run")[-1]], [runs.checkpoints(trial)[-1]], 1e-11)


def test_a_job_that_is_queued_again_goes_on(case):
    """One command that begins, goes on, and does nothing once all is done."""
    job = case / "job"
    command = ("run", case, "--out", job, "--restart", "auto", "--quiet", "--set", "time.end=2")
    assert runs.solver(*command, "--steps", 2).code == 0
    assert runs.summary(job)["steps"] == 2
    shutil.rmtree(job / "checkpoints")  # killed before the first one
    (job / "summary.json").unlink()
    assert runs.solver(*command, "--steps", 2).code == 0
    assert runs.solver(*command).code == 0
    before = contents(job)
    assert runs.summary(job)["time"] == pytest.approx(2.0)
    assert runs.solver(*command) == runs.Ended(0, "", "")
    assert contents(job) == before


def test_going_on_keeps_the_summary_of_what_was_finished(case, monkeypatch):
    before = runs.summary(case / "run")

    def broken(*_: object) -> str:
        raise OSError("the lights went out")

    monkeypatch.setattr("solver.run.run.loop", broken)
    further = (*QUIET, "--set", "time.end=3")
    assert runs.solver("run", case, "--restart", case / "run", *further).code == 2
    assert runs.summary(case / "run") == before
    monkeypatch.undo()
    assert runs.solver("run", case, "--out", case / "run", "--restart", "auto", *further).code == 0
    assert runs.summary(case / "run")["time"] == pytest.approx(3.0)


def test_a_finished_run_may_be_judged_anew(case):
    """Another reference is no step: the cost of the run stays what it was."""
    before = runs.summary(case / "run")
    (case / "table.csv").write_text(
        "y_over_h,U_plus,uu_plus,vv_plus,ww_plus,uv_plus,y_plus\n0,0,0,0,0,0,0\n1,9,1,1,1,0,99\n"
    )
    judged = ("--set", "reference={name='A', profiles='table.csv'}")
    done = runs.solver("run", case, "--restart", case / "run", *QUIET, *judged)
    assert done.code == 0, done.err
    after = runs.summary(case / "run")
    assert after["errors"]["reference"] == "A"
    for name in ("seconds_per_step", "fft_limit_ratio", "wall_seconds", "steps", "time", "averaging_time"):
        assert after[name] == before[name], name


def test_a_diverged_run_is_not_tried_again(case):
    summary = case / "run/summary.json"
    summary.write_text(json.dumps(runs.summary(case / "run") | {"status": "diverged"}))
    assert runs.solver("run", case, "--out", case / "run", "--restart", "auto", *QUIET).code == 3
    assert runs.solver("run", case, "--restart", case / "run", *QUIET, "--set", "time.end=2.5").code == 0
    assert runs.summary(case / "run")["status"] == "finished"


def test_an_end_before_the_checkpoint(case):
    before = contents(case / "run")
    refused(
        runs.solver("run", case, "--restart", case / "run", "--set", "time.end=1.5", *QUIET[:1]),
        *("checkpoint is at t = 2", "[time] end = 1.5", "nothing to do"),
    )
    assert contents(case / "run") == before


OTHER_FLOWS = {
    "another closure": (("--closure", "none"), "[closure] name was 'dynamic_smagorinsky' and is 'none'"),
    "another option": (("--set", "closure.every=3"), "[closure] every was 2 and is 3"),
    "another viscosity": (("--set", "flow.nu=0.003"), "[flow] nu was 0.002 and is 0.003"),
    "another drive": (("--set", "flow.forcing.bulk_velocity=1.1"), "[flow.forcing] bulk_velocity"),
    "another wall": (("--set", "grid.y.upper=free_slip"), "[grid.y] upper was 'no_slip' and is 'free_slip'"),
}


@pytest.mark.parametrize("name", OTHER_FLOWS)
def test_another_flow_needs_a_folder_of_its_own(case, name):
    """There it begins its own averages; the folder it comes from stays as it is."""
    change, told = OTHER_FLOWS[name]
    run, new = case / "run", case / "new"
    before = contents(run)
    further = (*QUIET, "--set", "time.end=4")
    refused(runs.solver("run", case, "--restart", run, *further, *change), told, "--out", f"solver run {run}")
    done = runs.solver("run", case, "--restart", run, "--out", new, *further, *change)
    assert done.code == 0, done.err
    assert contents(run) == before
    found = runs.summary(new)
    assert found["time"] == pytest.approx(4.0)
    if "averaging_time" in found:
        assert 1.5 < found["averaging_time"] < 2.5  # not the 1.5 before the restart as well
    assert "averages begin anew at t = 2" in (new / "log.txt").read_text()


def test_what_goes_on_in_another_folder_keeps_its_averages(case):
    done = runs.solver("run", case, "--restart", case / "run", "--out", case / "new", *QUIET, "--set", "time.end=4")
    assert done.code == 0, done.err
    assert runs.summary(case / "new")["averaging_time"] > 3.0


def test_two_runs_do_not_share_a_folder(case):
    """The one that is there is named; once it is killed the next one takes over."""
    run = case / "long"
    process = runs.forked("run", case, "--out", run, "--quiet", "--set", "time.end=1e5")
    until((run / "timeseries.csv").exists)
    second = ("run", case, "--out", run, "--quiet", "--steps", 1, "--restart", "auto", "--set", "time.end=1e5")
    try:
        refused(runs.solver(*second), f"process {process.pid} on {os.uname().nodename}", "--out")
    finally:
        process.kill()
        process.join(runs.PATIENCE)
    assert (run / "run.lock").exists()
    done = runs.solver(*second)
    assert done.code == 0, done.err
    assert not (run / "run.lock").exists()


@pytest.mark.parametrize(
    ("words", "text", "name", "lock_name", "part"),
    [
        (("train",), TRAINING, "trained", "trained/run.lock", "closures.training.experiment.train"),
        (("generate",), DATA, "made", ".made.lock", "closures.linear_families.generate._Batches.make"),
        (("generate", "--samples", 1), BOX, "made", ".made.lock", "closures.data.generate._make"),
    ],
)
def test_two_commands_do_not_write_the_same(tmp_path, monkeypatch, words, text, name, lock_name, part):
    """Both wrote one training state, or one data file; what a killed one leaves is taken over."""
    recipe, out = tmp_path / "recipe.toml", tmp_path / "new" / name
    recipe.write_text(text)
    command = (*words, recipe, "--out", out, "--quiet")
    with monkeypatch.context() as changed:
        changed.setattr(part, lambda *_: time.sleep(runs.PATIENCE))
        process = runs.forked(*command)
    claim = tmp_path / "new" / lock_name
    until(lambda: claim.exists() and bool(claim.read_text()))
    try:
        refused(runs.solver(*command), f"{out}: process {process.pid} on {os.uname().nodename}", "--out")
        assert [path for path in (tmp_path / "new").rglob("*") if path.is_file()] == [claim]
    finally:
        process.kill()
        process.join(runs.PATIENCE)
    assert claim.exists()
    trained = SimpleNamespace(card=SimpleNamespace(metrics={}))
    monkeypatch.setattr("closures.training.experiment.train", lambda *_: trained)  # the rest is in test_kills.py
    done = runs.solver(*command)
    assert done.code == 0, done.err
    assert not claim.exists()


def test_of_the_processes_of_torchrun_the_first_holds_the_lock(tmp_path, monkeypatch):
    """To MPI each of them is alone, and the root."""
    monkeypatch.setenv("RANK", "0")
    with train._claimed(tmp_path):
        with pytest.raises(RunFolderError, match=f"process {os.getpid()}"), train._claimed(tmp_path):
            pass
        monkeypatch.setenv("RANK", "1")
        with train._claimed(tmp_path):
            pass
        assert (tmp_path / "run.lock").exists()


def test_a_refused_command_leaves_no_folder(tmp_path):
    with pytest.raises(ValueError, match="mistake"), lock.held(tmp_path / "a/b"):
        raise ValueError("mistake")
    assert not (tmp_path / "a").exists()


ELSEWHERE = {"host": "another-machine", "pid": 7, "job": "81", "restarts": None}


def test_locks_of_other_machines(tmp_path, monkeypatch):
    """A fresh one counts, an old one does not; a batch job put back into the queue knows its own."""
    for name in ("JOB_ID", "RESTART_COUNT"):
        monkeypatch.delenv(f"SLURM_{name}", raising=False)
    path = tmp_path / "run.lock"
    path.write_text(json.dumps(ELSEWHERE))
    with pytest.raises(RunFolderError, match="process 7 on another-machine"), lock.held(tmp_path):
        pass
    assert json.loads(path.read_text()) == ELSEWHERE
    monkeypatch.setenv("SLURM_JOB_ID", "81")
    with pytest.raises(RunFolderError, match="process 7"), lock.held(tmp_path):  # another step of the same job
        pass
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with lock.held(tmp_path):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    monkeypatch.delenv("SLURM_JOB_ID")
    path.write_text(json.dumps(ELSEWHERE))
    old = time.time() - 2 * lock.STALE_SECONDS
    os.utime(path, (old, old))
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.01)
    with lock.held(tmp_path):
        os.utime(path, (old, old))
        until(lambda: path.stat().st_mtime > old + lock.STALE_SECONDS)  # a sign of life
        with pytest.raises(RunFolderError, match=f"process {os.getpid()}"), lock.held(tmp_path):
            pass
    assert not path.exists()


def test_locks_where_the_file_system_has_none(tmp_path, monkeypatch):
    def missing(*_: object) -> None:
        raise OSError("no locks available")

    monkeypatch.setattr(lock.fcntl, "flock", missing)
    path, host = tmp_path / "run.lock", os.uname().nodename
    path.write_text(json.dumps(ELSEWHERE | {"host": host, "pid": os.getppid()}))
    with pytest.raises(RunFolderError, match=f"process {os.getppid()} on {host}"), lock.held(tmp_path):
        pass
    path.write_text(json.dumps(ELSEWHERE | {"host": host, "pid": 2**22 + 1}))  # there is no such process
    with lock.held(tmp_path):
        pass
    assert not path.exists()


def test_a_run_that_was_killed_in_its_first_write_leaves_a_folder_of_its_own(tmp_path):
    case = runs.write_case(tmp_path / "case")
    (case / "run").mkdir()
    (case / "run/.provenance.json.4711.part").write_text("{")
    assert runs.solver("run", case, "--out", case / "run", *QUIET, "--steps", 1).code == 0
    assert not list((case / "run").glob(".*.part"))
