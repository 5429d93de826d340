"""What is said, where, and to whom: pipes that close, alphabets that end at 127, launchers, and the log of a run."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest
from rich.table import Table

from closures.compare.campaign import show
from solver import __version__, terminal
from solver.discretisation import fusion
from solver.errors import CaseError
from solver.flow.simulation import Simulation
from solver.observers.progress import ProgressLines, Way
from solver.parallel import ranks
from tests import runs

ESCAPE = "\x1b"


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """A fresh case folder."""
    return runs.write_case(tmp_path)


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def test_a_reader_that_goes_ends_no_run(case):
    """As in ``solver run ... | head -1``."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        assert runs.solver("run", case, "--out", case / "run", "--steps", 3, out=pipe).code == 0
    assert runs.summary(case / "run")["steps"] == 3


def test_a_terminal_that_knows_only_ascii(case):
    (case / "table.csv").write_text(
        "y_over_h,y_plus,U_plus,uu_plus,vv_plus,ww_plus,uv_plus\n0,0,0,0,0,0,0\n0.5,5,8,2,1,2,-0.5\n1,9,9,1,1,1,0\n"
    )
    with (case / "case.toml").open("a") as file:
        file.write('[reference]\nname = "made up"\nprofiles = "table.csv"\n')
    page = io.BytesIO()
    screen = io.TextIOWrapper(page, encoding="ascii")
    assert runs.solver("run", case, "--out", case / "run", "--set", "time.end=3", out=screen).code == 0
    assert b"+- 95 %" in page.getvalue()


def test_a_launcher_gets_plain_lines(monkeypatch):
    """Open MPI gives its first rank a terminal, whatever becomes of what is written there."""
    for name in terminal.LAUNCHERS:
        monkeypatch.delenv(name, raising=False)
    with contextlib.redirect_stdout(Screen()):
        assert terminal.console().is_terminal
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    screen = Screen()
    with contextlib.redirect_stdout(screen):
        console = terminal.console()
        console.print("12 %  [pressure] solver", Table("a", title="[flow]"))
    assert not console.is_terminal
    assert ESCAPE not in screen.getvalue()
    assert "[pressure] solver" in screen.getvalue()
    assert "[flow]" in screen.getvalue()


def test_nothing_is_cut_where_there_is_no_terminal():
    page, cells = io.StringIO(), ["x" * 90, "y" * 90]
    table = Table("a", "b")
    table.add_row(*cells)
    verdict = "# case\n\n- **wale**: " + "; ".join(f"quantity {i}" for i in range(30))
    with contextlib.redirect_stdout(page):
        terminal.console().print(table)
        show(verdict, terminal.console())
    assert all(cell in page.getvalue() for cell in cells)
    assert verdict.splitlines()[-1] in page.getvalue()


def test_names_of_tables_are_no_markup():
    assert "for [reference] filtered" in runs.solver("data", "statistics", "--help").out


def test_version_and_help_load_neither_torch_nor_mpi():
    loaded = "print(sorted({'torch', 'mpi4py'} & set(sys.modules)))"
    code = f"import sys; from solver.cli.main import main\ntry: main()\nfinally: {loaded}"
    environment = {k: v for k, v in os.environ.items() if k not in terminal.LAUNCHERS}
    for word, expected in (("--version", f"les-solver {__version__}"), ("--help", "Commands:")):
        words = [sys.executable, "-c", code, word]
        done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=runs.ROOT, env=environment)
        assert expected in done.stdout
        assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(("words", "found"), [("solver ch", "check\n"), ("solver run --ov", "--overwrite\n")])
def test_a_shell_completes_commands_and_options(monkeypatch, words, found):
    """As ``solver --install-completion`` has it ask."""
    for name, value in (("_SOLVER_COMPLETE", "complete_bash"), ("COMP_WORDS", words), ("COMP_CWORD", words.count(" "))):
        monkeypatch.setenv(name, str(value))
    assert runs.solver() == runs.Ended(0, found, "")


def test_a_file_of_the_user_s_does_not_stand_in_for_a_package(tmp_path):
    """``python -m`` looks into the working directory first."""
    (tmp_path / "closures.py").write_text("raise RuntimeError('not this one')")
    words, environment = [sys.executable, "-m", "solver", "cases"], os.environ | {"PYTHONPATH": str(runs.ROOT)}
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_interrupted_start_is_quiet(monkeypatch):
    """Ctrl-C while torch is imported: its code, and no traceback through other people's modules."""
    late = types.ModuleType("solver.cli.commands")

    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    late.__getattr__ = interrupted
    monkeypatch.setitem(sys.modules, late.__name__, late)
    assert runs.solver("doctor") == runs.Ended(130, "", "")


def test_a_run_begins_without_what_it_does_not_need():
    """Half a second of SciPy's optimisers and of figures, before the first step of a channel."""
    dear = "{'scipy.integrate', 'scipy.optimize', 'scipy.stats', 'matplotlib', 'torch._inductor', 'pyvista'}"
    code = f"import sys, solver.run.run, closures.registry.registry; print(sorted({dear} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=runs.ROOT)
    assert done.stdout.strip() == "[]"


def test_the_threads_of_numpy_are_limited_too():
    """Its BLAS starts them when it is imported, before anybody could say how many."""
    code = (
        "import os; from solver.cli.main import limit_threads; limit_threads(); import numpy as np\n"
        "np.linalg.eigh(np.eye(400)); print(len(os.listdir('/proc/self/task')))"
    )
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=runs.ROOT, env=environment)
    assert done.stdout.strip() == "1"


def test_a_hang_up_stops_cleanly_and_says_how_to_go_on(case, monkeypatch):
    step, run = Simulation.step, case / "run"

    def hang_up(self: Simulation, longest: float = float("inf")) -> None:
        step(self, longest)
        if self.step_count == 2:
            os.kill(os.getpid(), signal.SIGHUP)

    monkeypatch.setattr(Simulation, "step", hang_up)
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        done = runs.solver("run", case, "--out", run)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
        assert (done.code, runs.summary(run)["status"]) == (130, "stopped")
        assert done.out.splitlines()[-1] == f"go on: solver run {run} --restart {run}"
        assert [path.stem for path in runs.checkpoints(run)] == ["step_00000002"]
        assert "stopped at step 2 by SIGHUP" in (run / "log.txt").read_text()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
        assert runs.solver("run", case, "--out", case / "other", "--steps", 3, "--quiet").code == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_log_tells_the_run(case):
    run = case / "run"
    assert runs.solver("run", case, "--out", run, "--set", "output.checkpoint=3", "--quiet").code == 0
    log = (run / "log.txt").read_text()
    for words in (
        f"les-solver {__version__}, commit",
        "Tiny channel",
        "closure dynamic_smagorinsky, every = 2; forcing mass_flux; nu = 0.002",
        "grid 8 x 9 x 8 (products on 10 x 9 x 10 points), sides 12.566 x 2 x 6.2832",
        "ranks 1, threads of each 1, device cpu, float64",
        "pressure solver direct; kernels plain torch",
        "[initial] kind = 'wall_turbulence', seed 73311",
        "dt is limited by advection",
        f"finished: {runs.summary(run)['steps']} steps to t = 9",
        "ms a step: closure",
        "guard interventions: 0",
    ):
        assert log.count(words) == 1, words
    assert log.count("INFO checkpoint step_") == len(set(log.split("checkpoint step_")[1:])) >= 3
    assert log.count(" s left") == 10
    assert ESCAPE not in log


@pytest.mark.parametrize("foreseen", [True, False])
def test_the_log_keeps_how_a_run_failed(case, monkeypatch, foreseen):
    problem = CaseError("[flow] nu = 0: is too little") if foreseen else ZeroDivisionError("a bug")

    def fail(self: Simulation, longest: float = float("inf")) -> None:
        raise problem

    monkeypatch.setattr(Simulation, "step", fail)
    done = runs.solver("run", case, "--out", case / "run")
    assert done.code == (2 if foreseen else 1)
    log = (case / "run/log.txt").read_text()
    assert f"ERROR ended by an error: {problem}" in log
    assert ("Traceback" in log) != foreseen
    assert ("Traceback" in done.err) != foreseen


def test_progress_lines_come_at_a_sane_rate(monkeypatch):
    """Each tenth, and in a run of days each ten minutes; compiling does not count for the time left."""
    clock, said = [0.0], []
    monkeypatch.setattr("solver.observers.progress.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("solver.discretisation.fusion.compiling.seconds", 0.0)
    flow = types.SimpleNamespace(t=0.0, step_count=0, dt=0.01, control=types.SimpleNamespace(limit="diffusion"))
    lines = ProgressLines(Way(flow, 10.0, None), said.append)
    clock[0] = fusion.compiling.seconds = 50.0
    for step in range(1, 1001):
        clock[0], flow.t, flow.step_count = clock[0] + 1.0, 0.01 * step, step
        lines(flow)
    assert len(said) == 10
    assert said[4].split() == [
        "50",
        "%",
        "step",
        "500",
        "t",
        "5/10",
        "dt",
        "1.0e-02",
        "(diffusion)",
        "500",
        "s",
        "left",
    ]
    clock[0], flow.t = clock[0] + 599.0, 10.0
    lines(flow)
    assert len(said) == 10
    clock[0] += 1.0
    lines(flow)
    assert len(said) == 11


def test_an_interrupted_comparison_says_how_to_go_on(case, monkeypatch):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("closures.compare.campaign.compare", interrupted)
    done = runs.solver("compare", case, "--closures", "none,wale")
    assert (done.code, done.err) == (130, "solver: interrupted; the same command goes on where it stopped\n")


def test_parallel_ranks_are_quiet(monkeypatch):
    monkeypatch.setattr(ranks, "is_root", lambda: False)
    assert terminal.console().quiet
