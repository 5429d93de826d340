"""What a step of each closure costs: timed alone, in turn, once the runs are over and share the cores no more."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from closures.compare.runs import Run
from solver.discretisation import fusion
from solver.discretisation.timers import closure_fraction
from solver.errors import SolverError
from solver.files.checkpoint_file import latest
from solver.files.folder import write_json
from solver.flow.simulation import Simulation
from solver.observers.checkpoint import restore
from solver.run.build import Source, build
from solver.run.limit import seconds

log = logging.getLogger("solver")
FILE = "cost.json"  # in a run folder; what it says replaces what the run found while it shared the machine
LOOKS = 20  # at the load, within a second
ROUNDS = 3
BLOCK = 30  # steps in a row of one closure: they hold several evaluations of what is not evaluated in each
BUDGET = 20.0  # seconds for a closure, if its steps are long
UNKNOWN: dict[str, Any] = {"seconds_per_step": math.nan, "closure_fraction": math.nan}


def mark_shared(folder: Path) -> None:
    """Say in a run folder that what it took was measured beside other runs, which is no measure of its cost."""
    write_json(folder / FILE, UNKNOWN)


def as_stored(run: Run) -> Run:
    """The run with the cost that lies in its folder, if one was measured after it."""
    try:
        found = json.loads((run.folder / FILE).read_text(encoding="utf-8"))
        known = {key: math.nan if found[key] is None else float(found[key]) for key in UNKNOWN}
    except (OSError, ValueError, KeyError, TypeError):
        return run
    return replace(run, summary=run.summary | known)


def timed_alone(runs: Sequence[Run]) -> list[Run]:
    """The runs with the cost of their closures measured now, one step after the other; NaN where it could not be.

    Every closure goes on from the last checkpoint of its first sound run on each grid, with as many threads as that.
    """
    first: dict[str, Run] = {}
    for run in runs:
        if not run.broken:
            first.setdefault(_key(run), run)
    found = _in_turn(first)
    timed = []
    for run in runs:
        cost = found.get(_key(run), UNKNOWN)
        write_json(run.folder / FILE, cost)
        timed.append(replace(run, summary=run.summary | cost))
    return timed


def load() -> str:
    """What else keeps this machine's cores busy just now, in words; empty where the system does not tell.

    Linux counts the processes that run or wait for a core; one of them is this one.
    """
    others = []
    for _ in range(LOOKS):
        try:
            running = Path("/proc/loadavg").read_text(encoding="ascii").split()[3].partition("/")[0]
        except (OSError, IndexError):
            return ""
        others.append(int(running) - 1)
        time.sleep(1.0 / LOOKS)
    busy, cores = statistics.mean(others), len(os.sched_getaffinity(0))
    told = f"{busy:.1f} other threads busy on {cores} cores"
    return f"{told}: these costs are too high" if busy + torch.get_num_threads() > cores + 0.5 else told


def _key(run: Run) -> str:
    return run.case.closure.model_dump_json() + run.case.grid.model_dump_json()


def _in_turn(runs: dict[str, Run]) -> dict[str, dict[str, float]]:
    """Median seconds a step and the closure's share, by key."""
    flows: dict[str, Simulation] = {}
    with _as_in_a_run(runs):
        for key, run in runs.items():
            with _failing_softly(run):
                fusion.enable(_was_fused(run))
                flows[key] = _flow(run)
        steps = {key: _steps(flow) for key, flow in flows.items()}
        times: dict[str, list[float]] = {key: [] for key in flows}
        for _ in range(ROUNDS):
            for key, flow in flows.items():
                with _failing_softly(runs[key]):
                    fusion.enable(_was_fused(runs[key]))
                    block = seconds(partial(_walk, flow, steps[key]))
                    times[key].append(block / steps[key])
    return {
        key: {
            "seconds_per_step": statistics.median(times[key]),
            "closure_fraction": closure_fraction(flow.timers.seconds),
        }
        for key, flow in flows.items()
        if len(times[key]) == ROUNDS
    }


def _flow(run: Run) -> Simulation:
    """The flow at the end of a run, its kernels compiled and its fields in memory."""
    saved = latest(run.folder)
    flow = build(Source(run.case, run.folder, run.folder.name), saved)
    restore(saved, flow, [])
    for _ in range(3):
        flow.step()
    return flow


def _walk(flow: Simulation, steps: int) -> None:
    for _ in range(steps):
        flow.step()


def _steps(flow: Simulation) -> int:
    """How many steps a block has."""
    one = seconds(flow.step)
    flow.timers.reset()
    return max(3, min(BLOCK, int(BUDGET / ROUNDS / max(one, 1e-9))))


def _was_fused(run: Run) -> bool:
    return bool(run.summary.get("compile_seconds")) and fusion.compiler_available()


@contextlib.contextmanager
def _failing_softly(run: Run) -> Iterator[None]:
    """No comparison is lost to its timing."""
    try:
        yield
    except (SolverError, MemoryError, torch.OutOfMemoryError) as problem:
        log.warning("%s: its cost is not measured: %s", run.folder, problem or "no memory is left")


@contextlib.contextmanager
def _as_in_a_run(runs: dict[str, Run]) -> Iterator[None]:
    """Threads and modes of a run, and afterwards those of before."""
    threads, fused = torch.get_num_threads(), fusion.is_enabled()
    torch.set_num_threads(max((int(run.summary["threads"]) for run in runs.values()), default=1))
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_num_threads(threads)
        fusion.enable(fused)
