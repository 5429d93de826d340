"""Real runs: made once, taken again, gone on with; failures are shown; constants are found."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from closures.compare import campaign, compare, jobs, tuning
from closures.compare.runs import group, read
from closures.operators import artefact
from closures.operators.shipped import shipped
from solver.errors import CaseError
from solver.files.folder import source_digest
from solver.run.leg import differences
from tests.compare.ensembles import CASE, ROOT, write_run
from tests.compare.test_boxes import write_box
from tests.runs import solver

BOX = """\
title = "Tiny Taylor-Green vortex"
[grid.x]
kind = "fourier"
n = 8
length = "2 pi"
[grid.y]
kind = "fourier"
n = 8
length = "2 pi"
[grid.z]
kind = "fourier"
n = 8
length = "2 pi"
[flow]
nu = 0.01
[initial]
kind = "taylor_green"
[time]
end = 1.0
[output]
every_steps = 1
spectra = 0.1
checkpoint = 0.5
[reference]
name = "spectral"
dissipation = "table.csv"
[run]
device = "cpu"
fuse = "off"
"""


@pytest.fixture
def case(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "case.toml").write_text(BOX)
    t = np.linspace(0, 1, 50)
    rows = [f"{a:.6g},{b:.8g}" for a, b in zip(t, 0.125 * np.exp(-0.06 * t), strict=True)]
    (folder / "table.csv").write_text("t,kinetic_energy\n" + "\n".join(rows) + "\n")
    return folder


def test_a_run_is_taken_from_before_only_if_the_same_code_made_it(tmp_path, monkeypatch):
    """Others stay where they are; a run of two legs by two codes is no run of either."""
    monkeypatch.chdir(tmp_path)
    first = jobs.plan(CASE, "wale", ())
    write_run(first.folder, "wale", first.case.initial.seed)
    place = first.folder / "provenance.json"
    facts = json.loads(place.read_text())
    for source, taken in ((source_digest(), True), ("0" * 64, False), ("0" * 64 + "+" + source_digest(), False)):
        place.write_text(json.dumps(facts | {"source": source}))
        job = jobs.plan(CASE, "wale", ())
        assert (job.folder == first.folder) == taken
        assert (jobs.existing(job) is not None) == taken
        assert jobs.existing(first) is None or taken
        assert job.folder.name.startswith(first.folder.name)
    before = sorted(first.folder.iterdir())
    assert "--overwrite" not in jobs.words(job)
    assert sorted(first.folder.iterdir()) == before


@pytest.mark.slow
def test_runs_are_made_reused_and_failures_shown(case, monkeypatch):
    closures = ["smagorinsky:c_s=0.3", "smagorinsky:c_s=-1.0"]
    out = compare([case], ["none", *closures], console=Console(quiet=True))
    record = json.loads((out / "report.json").read_text())
    assert record["arguments"]["paths"] == [str(case)]
    assert record["arguments"]["closures"] == ["none", *closures]
    assert [row["label"] for row in record["rows"]] == ["none", "smagorinsky"]
    assert [f["run"] for f in record["failures"]] == ["smagorinsky, seed 20261"]
    assert "c_s" in record["failures"][0]["reason"]
    assert "c_s" in (out / "report.html").read_text()
    # a smooth vortex needs no model, and has no randomness: the difference is exact
    words = {row["label"]: row["words"] for row in record["rows"]}
    assert set(words["smagorinsky"].values()) == {"worse"}
    folders = [Path(row["folders"][0]) for row in record["rows"]]
    assert [folder.parent for folder in folders] == [Path("runs")] * 2

    monkeypatch.setattr(jobs, "words", lambda job: pytest.fail("it ran again"))
    again = json.loads((compare([case], closures[:1], console=Console(quiet=True)) / "report.json").read_text())
    assert [row["errors"] for row in again["rows"]] == [row["errors"] for row in record["rows"]]
    table = (case / "table.csv").read_text()
    (case / "table.csv").write_text(table.replace(",0.1", ",0.2"))  # the case's judges, not what the runs took along
    other = json.loads((compare([case], closures[:1], console=Console(quiet=True)) / "report.json").read_text())
    assert other["rows"][0]["errors"] != record["rows"][0]["errors"]

    job = jobs.plan(case, closures[0], ())
    assert job.folder == folders[1]
    assert jobs.share(job) == pytest.approx(1.0, abs=0.05)
    (folders[1] / "summary.json").unlink()  # as if it had been killed
    assert jobs.existing(job) is None
    assert jobs.again(job, "time.end=2.0").folder != job.folder


@pytest.mark.parametrize(
    ("code", "stderr", "reason"),
    [(-9, "", "stopped by SIGKILL"), (130, "", "stopped by a signal or"), (3, "solver: it diverged\n", "it diverged")],
)
def test_a_run_that_did_not_end_says_why(case, monkeypatch, code, stderr, reason):
    """One that was stopped says as well what goes on with it; an exit code alone tells nobody anything."""
    ended = subprocess.CompletedProcess([], code, stdout="", stderr=stderr)
    monkeypatch.setattr(jobs.subprocess, "run", lambda *args, **options: ended)
    failure = jobs.execute(jobs.plan(case, "none", ())).failure
    assert failure.startswith(reason)
    assert ("the same command goes on" in failure) == failure.startswith("stopped")


def test_a_network_that_was_trained_again_is_run_again(case):
    network = Path("network")
    shutil.copytree(shipped()["hit_decay_lesnets"], network)
    job = jobs.plan(case, f"surrogate:artefact={network}", ())
    assert jobs.again(job).folder == job.folder == jobs.plan(case, job.closure, job.overrides).folder
    card = json.loads((network / artefact.CARD).read_text())
    (network / artefact.CARD).write_text(json.dumps(card | {"weights_sha256": "0123456789"}))
    assert jobs.again(job).folder != job.folder
    assert jobs.again(job).folder.name.endswith("-01234567")
    (network / artefact.CARD).unlink()
    assert job.folder.name.startswith(jobs.again(job).folder.name)


def test_quick_halves_the_times_and_nothing_else():
    plain = jobs.plan(CASE, "wale", ())
    quick = jobs.plan(CASE, "wale", campaign._quick(CASE, ()))
    assert differences(plain.case, quick.case) == {"time.end": (600.0, 300.0), "statistics.start": (200.0, 100.0)}


@pytest.mark.parametrize(("name", "option", "optimum"), [("smagorinsky", "c_s", 0.09), ("wale", "c_w", 0.41)])
def test_tuning_finds_the_constant_and_records_its_trials(monkeypatch, name, option, optimum):
    def error(job, reference):
        assert job.case.time.end == pytest.approx(0.35 * 600)
        assert job.case.statistics.start == pytest.approx(0.35 * 200)
        c = job.case.closure.options[option]
        return 0.05 + (c - optimum) ** 2 + 0.3 * abs(c - optimum) ** 3

    monkeypatch.setattr(tuning, "_error", error)
    (found,) = tuning.tune(CASE, ["none", name, "dynamic_smagorinsky"], (), None, Console(quiet=True))
    assert found.best == pytest.approx(optimum, rel=0.05)
    assert found.best in [trial.value for trial in found.trials]
    assert found.best == min(found.trials, key=lambda trial: trial.error).value
    assert len(found.trials) <= tuning.TRIALS + 1
    assert found.spec == f"{name}:{option}={found.best:.4g}"


def test_constants_are_options_of_their_closures():
    for name, option in tuning.CONSTANTS.items():
        assert tuning._default(jobs.plan(CASE, name, ()), option) > 0


def test_what_is_tuned_is_the_leading_error(tmp_path):
    found = tuning.leading_error(read(write_run(tmp_path / "a", "wale", 3, {"uv": 0.1, "v_rms": 0.1})), "MKM180")
    assert found == pytest.approx(0.1 * np.sqrt(2 / 5), rel=0.2)
    broken = write_run(tmp_path / "b", "wale", 3, status="laminar", statistics=False)
    assert tuning.leading_error(read(broken), None) == tuning.BROKEN_ERROR
    with pytest.raises(CaseError, match="no reference to tune on"):
        tuning.leading_error(read(write_box(tmp_path / "c", "wale", 3)), None)


def test_a_trial_of_a_few_steps_is_not_taken_for_the_run(case):
    """Nor a run whose case ends later than it got; its word alone says nothing."""
    job = jobs.plan(case, "none", ())
    words = ("run", job.source, "--closure", "none", "--out", job.folder, "--quiet")
    assert solver(*words, "--steps", 2).code == 0
    summary = json.loads((job.folder / "summary.json").read_text())
    assert (summary["status"], summary["steps"]) == ("stopped", 2)
    (job.folder / "summary.json").write_text(json.dumps(summary | {"status": "finished"}))  # as older versions said
    assert jobs.existing(job) is None
    assert solver(*jobs.words(job)).code == 0
    assert jobs.existing(job).summary["time"] == pytest.approx(1.0)


def test_a_run_beside_one_of_other_code_says_so(case):
    job, screen = jobs.plan(case, "none", ()), io.StringIO()
    assert solver(*jobs.words(job)).code == 0
    place = job.folder / "provenance.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | {"source": "of other code"}))
    again = jobs.plan(case, "none", ())
    assert jobs.existing(again) is None
    assert solver(*jobs.words(again)).code == 0
    jobs._tell(jobs.Ended(again, jobs.existing(again)), Console(file=screen, width=500))
    assert f"{job.folder.name} was made by other code and is left as it is" in screen.getvalue()
    assert json.loads(place.read_text())["source"] == "of other code"


def test_trainings_under_one_name_are_not_one_closure(tmp_path):
    """The same table, other weights: two members, and the same seed is no mistake."""
    folders = [write_run(tmp_path / word, "wale", 3) for word in ("a", "b")]
    for folder, weights in zip(folders, ("01234567ff", "89abcdefff"), strict=True):
        facts = json.loads((folder / "provenance.json").read_text())
        (folder / "provenance.json").write_text(json.dumps(facts | {"closure": {"weights_sha256": weights}}))
    members = group([read(folder) for folder in folders])
    assert [member.label for member in members] == ["wale (weights 01234567)", "wale (weights 89abcdef)"]
