"""Real processes under mpirun: one message, one exit code, no hang, and a clean stop when the launcher is told to."""

from __future__ import annotations

import signal
import time

import pytest

from tests import runs

pytestmark = runs.needs_mpirun

FAILS_ON_RANK_ONE = """
import sys, time
from mpi4py import MPI
from closures.registry import registry
from solver.cli.main import main

create = registry.create

def broken(name, **given):
    closure = create(name, **given)
    if MPI.COMM_WORLD.rank == 1:
        def call(*_):
            raise ZeroDivisionError("on one rank")
        closure.__class__ = type("Broken", (closure.__class__,), {"__call__": call})
    return closure

registry.create = broken
main()
"""


LOCAL_RANKS = """
import os
from mpi4py import MPI
from solver.parallel import ranks
from solver.run import machine

os.environ.pop("OMPI_COMM_WORLD_LOCAL_RANK", None)  # as under a launcher that sets no such name
machine.prepare_process()
if MPI.COMM_WORLD.rank == 1:  # alone, as in a farm of tasks
    assert ranks.local_rank() == 1
print(MPI.COMM_WORLD.gather((MPI.COMM_WORLD.rank, ranks.local_rank())))
"""


def test_each_rank_of_a_node_has_a_number_of_its_own(tmp_path, monkeypatch):
    """Whatever another launcher has left in the environment; and one rank can ask alone, as in a farm of tasks."""
    monkeypatch.setenv("SLURM_LOCALID", "0")
    done = runs.ended(runs.mpirun(2, "-c", LOCAL_RANKS))
    assert "[(0, 0), (1, 1)]" in done.out, done.err


def test_bad_input(tmp_path):
    case = runs.write_case(tmp_path)
    done = runs.ended(runs.mpirun(2, "-m", "solver", "run", case, "--out", case / "run", "--set", "flow.viscosity=1"))
    assert done.code == 2
    assert (done.out + done.err).count("unknown key 'viscosity'") == 1
    assert "Traceback" not in done.err
    assert not (case / "run").exists()


def test_more_ranks_than_planes(tmp_path):
    case = runs.write_case(tmp_path)
    coarse = ("--set", "grid.y.n=2", "--set", "closure.name=none", "--set", "closure={}")
    done = runs.ended(runs.mpirun(3, "-m", "solver", "check", case, *coarse))
    assert done.code == 2
    assert done.err.count("3 ranks cannot share 2 planes in y") == 1
    assert "use at most 2 ranks" in done.err


def test_an_exception_on_one_rank_ends_all(tmp_path):
    case = runs.write_case(tmp_path)
    process = runs.mpirun(2, "-c", FAILS_ON_RANK_ONE, "run", case, "--out", case / "run")
    while not (case / "run/timeseries.csv").exists():  # start-up takes its time on a busy machine
        assert process.poll() is None or (case / "run").exists()
        time.sleep(0.1)
    begun = time.monotonic()
    done = runs.ended(process)
    assert time.monotonic() - begun < 20
    assert done.code == 1
    assert done.err.count("ZeroDivisionError: on one rank") == 1
    assert not (case / "run/summary.json").exists()
    log = (case / "run/log.txt").read_text()
    assert log.count("ended on rank 1 by an error: on one rank") == log.count("Traceback") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_signal_to_the_launcher(tmp_path, number):
    """As batch systems send it to mpirun: checkpoint, status, exit code; only one rank has talked."""
    case = runs.write_case(tmp_path)
    run = case / "run"
    process = runs.mpirun(2, "-m", "solver", "run", case, "--out", run, "--set", "time.end=1e5")
    deadline = time.monotonic() + runs.PATIENCE
    while not (run / "timeseries.csv").exists() or len((run / "timeseries.csv").read_text().splitlines()) < 4:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    done = runs.ended(process)
    # Open MPI forwards SIGUSR1 and hands on our code; a SIGTERM is its own end too, and it says so with 1
    assert done.code == 130 if number == signal.SIGUSR1 else done.code != 0
    assert done.out.count("stopped:") == 1
    found = runs.summary(run)
    assert (found["status"], found["ranks"]) == ("stopped", 2)
    last = runs.checkpoints(run)[-1]
    assert int(last.stem[5:]) == found["steps"]
    assert runs.solver("run", case, "--restart", run, "--set", "time.end=1e5", "--steps", 2, "--quiet").code == 0
    assert runs.summary(run)["steps"] == found["steps"] + 2
    assert runs.summary(run)["ranks"] == 1
