"""When hooks act: absolute multiples whatever the steps and the legs, and averages that see every phase of a cycle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solver.observers.schedule import SamplingSchedule, TimeSchedule
from tests import runs


class Clock:
    """As much of a simulation as a schedule looks at."""

    def __init__(self) -> None:
        self.t, self.dt, self.step_count = 0.0, 0.0, 0

    def step(self, dt: float) -> None:
        self.t, self.dt, self.step_count = self.t + dt, dt, self.step_count + 1


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    steps=st.lists(st.floats(1e-3, 3.0), min_size=1, max_size=40),
    intervals=st.tuples(st.floats(0.05, 2.0), st.floats(0.05, 2.0)),
    cut=st.integers(0, 40),
)
def test_each_multiple_is_met_once_by_the_first_step_that_reaches_it(steps, intervals, cut):
    """Also where a step passes several, and where the interval is another one from some step on."""
    clock = Clock()
    assert all(TimeSchedule(interval).due(clock) for interval in intervals)
    for number, dt in enumerate(steps):
        interval, before = intervals[number >= cut], clock.t
        clock.step(dt)
        passed = int(np.floor(clock.t / interval + 1e-6)) > int(np.floor(before / interval + 1e-6))
        assert TimeSchedule(interval).due(clock) == passed


@pytest.mark.parametrize(("dt", "per_unit"), [(1 / 6, 6), (0.1, 10), (1 / 49, 49)])
def test_round_off_of_a_million_steps_makes_nothing_late(dt, per_unit):
    clock, schedule = Clock(), TimeSchedule(1.0)
    for number in range(1, 200 * per_unit + 1):
        clock.step(dt)
        assert schedule.due(clock) == (number % per_unit == 0)
    clock.t = 5e5 + 3e-8 - dt  # what many steps leave
    clock.step(dt)
    assert schedule.due(clock)
    clock.step(dt)
    assert not schedule.due(clock)


@pytest.mark.parametrize("interval", [5e-324, 1e-300, 1e-12])
def test_every_step_passes_some_multiple_of_an_interval_that_is_shorter(interval):
    """Where a time has more multiples than numbers can count, too."""
    clock = Clock()
    for _ in range(3):
        clock.step(3.0)
        assert TimeSchedule(interval).due(clock)


def test_never_is_never():
    clock = Clock()
    assert not TimeSchedule(0.0).due(clock)
    clock.step(7.0)
    assert not TimeSchedule(0.0).due(clock)


def sampled(schedule: SamplingSchedule, steps: int) -> np.ndarray:
    clock, found = Clock(), []
    for _ in range(steps):
        clock.step(0.1)
        if schedule.due(clock):
            found.append(clock.step_count)
    return np.array(found)


@pytest.mark.parametrize("every", [1, 2, 5, 9, 10, 20])
@pytest.mark.parametrize("cycle", [2, 3, 5, 9, 10])
def test_samples_see_all_phases_of_a_cycle_alike(every, cycle):
    """Of what repeats itself after `cycle` steps: by number, and weighted by the time since the sample before."""
    steps = sampled(SamplingSchedule(every), 400 * every)
    gaps = np.diff(steps)
    assert set(gaps) <= {every, max(every - 1, 1)}
    weights = np.bincount(steps[1:] % cycle, weights=gaps, minlength=cycle) / gaps.sum()
    assert np.abs(weights - 1 / cycle).max() < 0.15 / cycle


BOX = """\
title = "Tiny box"
grid.x = { kind = "fourier", n = 6, length = "2 pi" }
grid.y = { kind = "fourier", n = 6, length = "2 pi" }
grid.z = { kind = "fourier", n = 6, length = "2 pi" }
flow.nu = 0.1
initial = { kind = "taylor_green" }
time = { end = 1.0, dt = 0.02 }
output = { every_steps = 10, spectra = 0.5, snapshot = 0.5, checkpoint = 0.5 }
run = { device = "cpu", fuse = "off" }
"""


def times(run) -> tuple[list[float], list[float], list[float]]:
    """Of spectra, snapshots and the checkpoints that are left."""
    with_steps = [sorted((run / kind).glob("step_*.h5")) for kind in ("snapshots", "checkpoints")]
    by_step = [[round(0.02 * int(path.stem[5:]), 9) for path in paths] for paths in with_steps]
    spectra = np.genfromtxt(run / "spectra.csv", delimiter=",", names=True)["time"]
    return sorted(set(np.round(spectra, 9).tolist())), *by_step


@pytest.fixture
def box(tmp_path):
    (tmp_path / "case.toml").write_text(BOX)
    return tmp_path


@pytest.mark.parametrize(("interval", "expected"), [(0.1, [1.1, 1.2, 1.3, 1.4]), (0.6, [1.2]), (2.0, [])])
def test_after_a_restart_output_falls_on_multiples_of_the_new_interval(box, interval, expected):
    run, early = box / "run", [0.0, 0.5, 1.0]
    assert runs.solver("run", box, "--out", run, "--quiet").code == 0
    assert times(run) == (early, early, [0.5, 1.0])
    changes = (f"output.{kind}={interval}" for kind in ("spectra", "snapshot", "checkpoint"))
    sets = [word for change in ("time.end=1.44", *changes) for word in ("--set", change)]
    assert runs.solver("run", box, "--restart", run, *sets, "--quiet").code == 0
    spectra, snapshots, checkpoints = times(run)
    assert spectra == early + expected
    assert snapshots == [*early, *expected, 1.44]  # and what the run ends with
    assert checkpoints == [[1.0, *expected][-1], 1.44]


def test_no_snapshot_is_no_snapshot(box):
    run = box / "run"
    done = runs.solver("run", box, "--out", run, "--set", "output.snapshot=0", "--set", "output.spectra=0", "--quiet")
    assert done.code == 0
    assert not (run / "snapshots").exists()
    assert not (run / "spectra.csv").exists()
