"""`check`, `closures`, `doctor`, `bench` and `plot` say what is the case."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from closures.registry import registry, wall_models
from tests import runs

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """A fresh case folder."""
    return runs.write_case(tmp_path)


def rows(table: str) -> dict[str, str]:
    """The rows of a printed table of two columns."""
    cells = [[c.strip() for c in line.replace("┃", "│").split("│")[1:3]] for line in table.splitlines()]
    return {row[0]: row[1] for row in cells if len(row) == 2}


@pytest.mark.slow
def test_check(case):
    done = runs.solver("check", case, "--set", "time.dt_max=0.01", "--closure", "wale")
    assert (done.code, done.err) == (0, "")
    found = rows(done.out)
    assert found["grid"] == "8 x 9 x 8 (products on 10 x 9 x 10 points)"  # more than three times the highest mode
    assert float(found["max |div u| after projection"]) < 1e-12
    assert found["dt"] == "1.000e-02, set by dt_max"
    assert found["memory a rank"].endswith("MiB")
    assert float(found["seconds a step (not fused)"]) > 0
    assert "896" in found["steps to the end"]
    assert found["kernels"] == "plain torch"
    assert [path.name for path in case.iterdir()] == ["case.toml"]


def test_closures():
    done = runs.solver("closures")
    assert (done.code, done.err) == (0, "")
    names = [name for name in rows(done.out) if name not in ("", "name")]
    assert names == [*registry.names(), *wall_models.names()]
    assert "kappa = 0.41, B = 5.2" in done.out


def test_doctor():
    done = runs.solver("doctor")
    assert (done.code, done.err) == (0, "")
    found = rows(done.out)
    assert "MPI" in found["MPI"]
    assert str(shutil.which("mpirun") or "not found") in done.out
    assert (found["ranks"], found["torch"]) == ("1", torch.__version__)
    assert ("none visible" in found["GPU"]) != torch.cuda.is_available()
    assert {"processor", "cores", "threads a rank", "fused kernels", "PETSc", "3-D pictures", "disk"} <= found.keys()


@runs.needs_mpirun
def test_doctor_of_ranks():
    done = runs.ended(runs.mpirun(3, "-m", "solver", "doctor"))
    assert (done.code, done.err) == (0, "")
    assert done.out.count("les-solver") == 1  # the root speaks
    assert rows(done.out)["ranks"].startswith("3 on ")
    table = [line.split() for line in done.out.splitlines()]
    assert [row[0] for row in table[-3:]] == ["0", "1", "2"]


@pytest.mark.parametrize(("given", "threads"), [("2,1", "2"), ("many", "1"), ("0", "1"), ("", "1")])
def test_threads_come_from_the_environment(monkeypatch, given, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert rows(runs.solver("doctor").out)["threads a rank"] == threads


def test_bench(tmp_path):
    file = tmp_path / "records.json"
    words = ("bench", "--rounds", 2, "--grid", "16x16x16", "--no-fuse", "--device", "cpu", "--json", file)
    for closures in (["none"], ["none", "wale"]):
        done = runs.solver(*words, *(word for name in closures for word in ("--closure", name)))
        assert (done.code, done.err) == (0, "")
    alone, first, second = json.loads(file.read_text())
    assert alone["closure"] == "none"
    assert (first["closure"], second["closure"], first["flow"]) == ("none", "wale", "channel")
    assert (first["grid"], first["ranks"], first["fused"]) == ([16, 16, 16], 1, False)
    assert first["fft_limit_ratio"] > 0
    assert first["ns_per_point_per_stage"] == pytest.approx(first["seconds_per_step"] / 3 / 16**3 * 1e9)
    assert {"momentum", "pressure", "transforms"} <= first["milliseconds"].keys()
    assert "closure" not in first["milliseconds"]
    assert second["milliseconds"]["closure"] > 0
    assert first["relative_cost"] == 1 != second["relative_cost"]
    line = next(line for line in done.out.splitlines() if "whole step" in line)
    steps = [float(cell) for cell in re.findall(r"[0-9]+[.][0-9]+", line)]
    assert steps == pytest.approx([1e3 * r["seconds_per_step"] for r in (first, second)], abs=0.01)


@pytest.mark.slow
def test_plot(case):
    run = case / "run"
    assert runs.solver("run", case, "--out", run, "--quiet").code == 0
    done = runs.solver("plot", run)
    assert done.code == 0, done.err
    written = [Path(line) for line in done.out.split()]
    assert {"profiles.png", "spectra.png", "timeseries.png"} <= {path.name for path in written}
    assert all(path.parent == run / "figures" and path.read_bytes().startswith(PNG) for path in written)


def test_plot_says_what_it_could_not_draw(case, monkeypatch):
    monkeypatch.setattr("solver.figures.draw", lambda *_: [])
    run = case / "run"
    assert runs.solver("run", case, "--out", run, "--steps", 1, "--quiet").code == 0
    said = runs.solver("plot", run).err.splitlines()
    assert said == [
        "solver: no profiles.png: nothing is averaged before [statistics] start = 1",
        "solver: no vortices.png: set [output] snapshot",
    ]


def test_help_and_nothing():
    assert "Large-eddy simulation" in runs.solver("--help").out
    nothing = runs.solver()
    assert nothing.code == 2
    assert "Traceback" not in nothing.err
