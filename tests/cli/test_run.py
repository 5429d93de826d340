"""A run in good manners: statuses, exit codes, what it says, what it leaves, and how it goes on after a stop."""

from __future__ import annotations

import io
import os
import random
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

import solver as solver_package
from solver.case.case import load_case
from solver.discretisation.timers import OBSERVERS
from solver.errors import RunFolderError
from solver.figures.results import read_table
from solver.flow.simulation import Simulation
from solver.observers import progress
from solver.run import run as application
from solver.terminal import Bar
from tests import runs

KEYS = {
    "status": str, "case": str, "closure": str, "grid": list, "ranks": int, "threads": int, "device": str, "dtype": str,
    "steps": int, "time": float, "averaging_time": float, "wall_seconds": float, "seconds_per_step": float,
    "ns_per_point_per_stage": float, "fft_limit_ratio": float, "closure_fraction": float, "guard_interventions": int,
    "compile_seconds": float, "memory_mib": float, "max_divergence": float, "re_tau": float, "re_bulk": float,
    "c_f": float, "total_stress_residual": float, "ci95": dict,
}  # fmt: skip
ERRORS = ("u_mean", "u_rms", "v_rms", "w_rms", "uv", "c_f")
REFERENCE = """\
y_over_h,y_plus,U_plus,uu_plus,vv_plus,ww_plus,uv_plus
0,0,0,0,0,0,0
0.5,50,15,4,1,2,-0.5
1,100,18,1,1,1,0
"""


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """A fresh case folder with a reference."""
    folder = runs.write_case(tmp_path)
    (folder / "table.csv").write_text(REFERENCE)
    with (folder / "case.toml").open("a") as file:
        file.write('[reference]\nname = "made up"\nprofiles = "table.csv"\n')
    return folder


def test_summary_and_folder(case):
    run = case / "run"
    done = runs.solver("run", case, "--out", run)
    assert (done.code, done.err) == (0, "")
    found = runs.summary(run)
    assert found["status"] == "finished"
    for key, kind in KEYS.items():
        assert type(found[key]) is kind, key
    assert found["errors"]["reference"] == "made up"
    for key in ERRORS:
        assert found["errors"][key] > 0
        assert key in found["ci95"]
    assert found["time"] == pytest.approx(9.0, abs=1e-12)
    assert 7.0 < found["averaging_time"] < 9.0
    assert found["max_divergence"] < 1e-12
    assert all(type(n) is int for n in found["grid"])
    tables = {"timeseries.csv", "profiles.csv", "spectra.csv", "statistics.h5", "table.csv"}
    others = {"case.toml", "provenance.json", "log.txt", "checkpoints", "summary.json"}
    assert tables | others <= {path.name for path in run.iterdir()}
    assert "finished" in done.out
    assert "made up" in done.out
    parts = found["milliseconds_per_step"]
    assert {"closure", "momentum", "pressure", "transforms", *OBSERVERS} - {"output"} <= parts.keys()
    steps = sum(spent for part, spent in parts.items() if part not in OBSERVERS)
    assert 1e3 * found["seconds_per_step"] == pytest.approx(steps)
    assert 0 < found["closure_fraction"] == pytest.approx(parts["closure"] / steps)
    assert load_case(run)[0] == load_case(case)[0]
    opened_in_xarray(run)


def opened_in_xarray(run: Path) -> None:
    """Names, units and intervals are found by name; both directions of the spectra hold the same variance."""
    pytest.importorskip("xarray")
    found = solver_package.open_run(run)
    assert {"profiles", "budget", "spectra", "series", "means"} == set(found.children)
    assert (found.attrs["status"], found.attrs["errors.reference"]) == ("finished", "made up")
    u = found["profiles/u_plus"]
    wanted = read_table(run / "profiles.csv")
    near = int(np.abs(wanted["y_plus"] - 15).argmin())
    assert float(u.sel(y_plus=15, method="nearest")) == wanted["u_plus"][near]
    assert found[f"profiles/{u.attrs['ancillary_variables']}"].attrs["long_name"] == "95 % half width of u_plus"
    assert (u.attrs["units"], found["means/uuv"].attrs["units"]) == ("u_tau", "L^3 T^-3")
    variance = found["spectra/E_uu"].sum("k")
    np.testing.assert_allclose(variance.sel(direction="x"), variance.sel(direction="z"), rtol=1e-6)
    raw = found["means/uu"] - found["means/u"] ** 2
    y = float(found["spectra/y"][-1])
    both = raw.sel(y=[y, 2 - y], method="nearest").mean()
    assert float(variance.isel(y=-1).mean()) == pytest.approx(float(both), rel=0.3)  # of centres against raw moments
    assert float(found["series/time"][-1]) == pytest.approx(9.0)
    assert "ancillary_variables" not in found["series/cfl"].attrs
    with pytest.raises(RunFolderError, match="no run folder"):
        solver_package.open_run(run / "checkpoints")


def test_quiet(case):
    done = runs.solver("run", case, "--out", case / "run", "--steps", 3, "--quiet")
    assert done == runs.Ended(0, "", "")
    done = runs.solver("run", case, "--restart", case / "run", "--steps", 3, "--quiet")
    assert done == runs.Ended(0, "", "")
    assert "restarted from step 3" in (case / "run/log.txt").read_text()


def test_a_line_each_tenth(case):
    lines = runs.solver("run", case, "--out", case / "run", "--steps", 20).out.splitlines()
    tenths = [line.split()[0] for line in lines if "dt" in line and "%" in line]
    assert tenths == [str(10 * i) for i in range(1, 11)]
    assert "step 20  t" in lines[9]
    assert "0 s left" in lines[9]


def test_the_bar_fits_and_is_calm(monkeypatch):
    """On a terminal of 80 columns: one line, repainted at most twice a second."""
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=80, legacy_windows=False)
    flow = SimpleNamespace(t=0.0, step_count=0, dt=5.2e-2)
    with Bar(1.0, 0.0, terminal) as bar:
        hook = progress.ProgressBar(progress.Way(flow, 330.0, None), bar)
        screen.truncate(screen.seek(0))
        for step in range(1, 1201):
            clock[0] += 0.01
            flow.t, flow.step_count = 0.27 * step, step
            hook(flow)
            painted = screen.getvalue()
    frames = painted.count("step ")
    assert 12 <= frames <= 25  # twelve seconds
    assert "t 315.6/330  dt 5.2e-02" in painted
    assert all(len(_visible(line)) <= 80 for line in painted.replace("\r", "\n").splitlines())


def _visible(text: str) -> list[str]:
    """Characters that take room: without escape sequences."""
    found, inside = [], False
    for character in text:
        if character == "\x1b":
            inside = True
        elif not inside:
            found.append(character)
        elif character.isalpha():
            inside = False
    return found


def test_blow_up(case):
    run = case / "run"
    sets = ("--set", "time.dt=3.0", "--set", "time.end=900", "--set", "output.checkpoint=1", "--set", "flow.nu=1e-6")
    done = runs.solver("run", case, "--out", run, *sets, "--closure", "none")
    assert done.code == 3
    assert done.err.startswith("solver: diverged")
    assert "Traceback" not in done.err
    found = runs.summary(run)
    assert found["status"] == "diverged"
    assert isinstance(found["time"], float)
    assert found["time"] < 900
    for path in runs.checkpoints(run):
        assert all(abs(a).max() < 1e30 for name, a in runs.arrays(path).items() if name.startswith("velocity"))
    assert "diverged" in (run / "log.txt").read_text()


def test_blow_up_in_the_first_step_leaves_no_checkpoint(tmp_path):
    sets = [w for axis in "xyz" for w in ("--set", f"grid.{axis}.n=8")] + ["--set", "output.every_steps=1"]
    box = (runs.ROOT / "cases" / "hit_decay", "--closure", "none", "--set", "run.fuse=off", *sets)
    done = runs.solver("run", *box, "--out", tmp_path / "run", "--set", "time.dt=5", "--set", "time.end=50", "--quiet")
    assert done.code == 3
    assert runs.summary(tmp_path / "run")["status"] == "diverged"
    assert not runs.checkpoints(tmp_path / "run")


def test_a_restart_with_a_fixed_step_takes_that_step(case):
    run = case / "run"
    assert runs.solver("run", case, "--out", run, "--steps", 3, "--quiet", "--set", "output.every_steps=1").code == 0
    sets = ("--set", "output.every_steps=1", "--set", "time.dt=0.001")
    done = runs.solver("run", case, "--restart", run, *sets, "--steps", 2, "--quiet")
    assert done.code == 0, done.err
    rows = np.genfromtxt(run / "timeseries.csv", delimiter=",", names=True)
    assert rows["step"].tolist() == [0, 1, 2, 3, 4, 5]
    assert rows["dt"][3] > 0.1
    assert rows["dt"][4:].tolist() == [0.001, 0.001]
    assert rows["kinetic_energy"][4:] == pytest.approx(rows["kinetic_energy"][3], rel=1e-3)
    assert rows["dissipation"][4:] == pytest.approx(rows["dissipation"][3], rel=2e-2)


@pytest.mark.parametrize("when", [2, 20])
def test_not_a_number_is_noticed_at_once(case, monkeypatch, when):
    """Also with dt from the CFL number, in the middle of the run and in its last step."""
    step = Simulation.step

    def poisoned(self: Simulation, longest: float = float("inf")) -> None:
        step(self, longest)
        if self.step_count == when:
            self.velocity.coefficients[0].mul_(float("nan"))

    monkeypatch.setattr(Simulation, "step", poisoned)
    done = runs.solver("run", case, "--out", case / "run", "--steps", 20, "--quiet", "--set", "output.every_steps=50")
    assert done.code == 3
    found = runs.summary(case / "run")
    assert (found["status"], found["steps"]) == ("diverged", when)
    assert not runs.checkpoints(case / "run")


def test_laminar(case):
    sets = ("--set", "initial.amplitude=0", "--set", "output.every_steps=1")
    done = runs.solver("run", case, "--out", case / "run", *sets, "--quiet")
    assert done.code == 3
    assert "laminar at step 1" in done.err
    assert "[initial] amplitude" in done.err
    assert runs.summary(case / "run")["status"] == "laminar"


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM, signal.SIGINT])
def test_signals_stop_cleanly(case, monkeypatch, number):
    """A checkpoint, exit code 130, status "stopped"; a restart finishes as if nothing had been."""
    run, whole = case / "run", case / "whole"
    before = signal.getsignal(number)
    step = Simulation.step

    def interrupted(self: Simulation, longest: float = float("inf")) -> None:
        step(self, longest)
        if self.step_count == 4:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(Simulation, "step", interrupted)
        done = runs.solver("run", case, "--out", run, "--quiet")
    assert done == runs.Ended(130, "", "")
    assert signal.getsignal(number) == before
    found = runs.summary(run)
    assert (found["status"], found["steps"]) == ("stopped", 4)
    assert runs.solver("run", case, "--restart", run, "--quiet").code == 0
    assert runs.summary(run)["status"] == "finished"
    assert runs.solver("run", case, "--out", whole, "--quiet").code == 0
    runs.assert_same([runs.checkpoints(whole)[-1]], [runs.checkpoints(run)[-1]], 1e-11)


@pytest.mark.slow
def test_kill_at_any_moment(case):
    """Checkpoints after every step, `kill -9` three times, also into a write: the end is that of one run."""
    draw = random.Random(20_411)
    whole, run = case / "whole", case / "run"
    sets = ("--set", "output.checkpoint=1e-6", "--set", "time.end=60")
    assert runs.solver("run", case, "--out", whole, *sets, "--quiet").code == 0
    words: tuple[object, ...] = ("--out", run)
    reached = 0
    for _ in range(3):
        process = runs.forked("run", case, *words, *sets, "--quiet")
        deadline = time.monotonic() + runs.PATIENCE
        while not (there := runs.checkpoints(run)) or int(there[-1].stem[5:]) < reached + 3:
            assert process.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(draw.uniform(0.0, 0.3))
        process.kill()
        process.join(runs.PATIENCE)
        assert process.exitcode == -signal.SIGKILL
        assert not (run / "summary.json").exists()
        reached = int(runs.checkpoints(run)[-1].stem[5:])
        (run / f"checkpoints/.step_{reached + 1:08d}.h5.77.part").write_bytes(b"half a checkpoint")
        with (run / "timeseries.csv").open("a") as file:
            file.write("99,1.5")  # half a row
        words = ("--restart", run)
    done = runs.solver("run", case, "--restart", run, *sets, "--quiet")
    assert done.code == 0, done.err
    assert runs.summary(run)["status"] == "finished"
    assert [p.name for p in runs.checkpoints(run)] == [p.name for p in runs.checkpoints(whole)]
    assert not list(run.rglob("*.part"))
    names = ("profiles.csv", "spectra.csv", "timeseries.csv", "statistics.h5")
    runs.assert_same([whole / n for n in names], [run / n for n in names], 1e-9)
    runs.assert_same([runs.checkpoints(whole)[-1]], [runs.checkpoints(run)[-1]], 1e-11)


def test_a_new_leg_of_a_finished_run_ends_at_once(case):
    run = case / "run"
    assert runs.solver("run", case, "--out", run, "--set", "time.end=2", "--quiet").code == 0
    steps = runs.summary(run)["steps"]
    assert runs.solver("run", case, "--restart", run, "--set", "time.end=2", "--quiet").code == 0
    assert (runs.summary(run)["status"], runs.summary(run)["steps"]) == ("finished", steps)
    assert runs.solver("run", case, "--restart", run, "--set", "time.end=3", "--quiet").code == 0
    assert runs.summary(run)["steps"] > steps


def test_an_earlier_checkpoint_starts_another_course(case):
    """From a checkpoint by name, if it is meant: what came later in the folder goes, as do its rows."""
    run = case / "run"
    assert runs.solver("run", case, "--out", run, "--set", "output.checkpoint=1e-6", "--steps", 8, "--quiet").code == 0
    first = runs.checkpoints(run)[0]
    back = ("run", case, "--restart", first, "--steps", 4, "--quiet")
    refused = runs.solver(*back)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "went on to step_00000008.h5" in refused.err
    assert runs.summary(run)["steps"] == 8
    assert runs.solver(*back, "--overwrite").code == 0
    assert [path.name for path in runs.checkpoints(run)] == ["step_00000007.h5", "step_00000011.h5"]
    assert list(runs.table(run / "timeseries.csv")[:, 0]) == [0, 3, 6, 9, 11]
    elsewhere = runs.solver("run", case, "--restart", run, "--out", case / "other", "--steps", 1, "--quiet")
    assert elsewhere.code == 0
    assert len(runs.checkpoints(run)) == 2
    assert runs.summary(case / "other")["steps"] == 12


def test_out_and_restart_may_name_one_folder_in_two_ways(case, monkeypatch):
    monkeypatch.chdir(case)
    assert runs.solver("run", case, "--out", "run", "--steps", 2, "--quiet").code == 0
    done = runs.solver("run", case, "--restart", "run", "--out", case / "run", "--steps", 2, "--quiet")
    assert done.code == 0, done.err
    assert runs.summary(case / "run")["steps"] == 4
    assert [path.stem for path in runs.checkpoints(case / "run")] == ["step_00000002", "step_00000004"]


def test_a_second_interrupt_does_not_wait(case, monkeypatch):
    def stuck(*_: object) -> str:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        return "finished"

    monkeypatch.setattr(application, "loop", stuck)
    assert runs.solver("run", case, "--out", case / "run", "--quiet").code == 130
