"""What a part of a step is charged with, by a clock that moves when it is told to."""

from __future__ import annotations

import math
import time

import pytest
import torch

from closures.registry.registry import create
from solver.discretisation import fusion
from solver.discretisation.timers import Timers, closure_fraction, step_seconds
from solver.run import performance
from solver.run.performance import in_words
from tests.grids import operators, random_velocity, simulation

NU = 1e-3


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def work(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    ticking = Clock()
    monkeypatch.setattr(time, "perf_counter", ticking)
    return ticking


def test_a_closure_and_an_observer_pay_for_what_they_call(clock):
    timers = Timers(torch.device("cpu"))
    with timers("other"):
        with timers("closure"):
            clock.work(1.0)
            with timers("transforms"):
                clock.work(2.0)
            with timers("transforms", needed=0.25):  # a quarter of it would have come later anyway
                clock.work(4.0)
            with timers("closure network"):
                clock.work(8.0)
        with timers("momentum"), timers("transforms"):
            clock.work(16.0)
    with timers("hooks"):
        clock.work(32.0)
        with timers("statistics"), timers("closure network"):
            clock.work(64.0)
        with timers("transforms"):
            clock.work(128.0)
    spent = {part: seconds for part, seconds in timers.seconds.items() if seconds}
    assert spent == {"closure": 6.0, "closure network": 8.0, "transforms": 17.0, "hooks": 160.0, "statistics": 64.0}
    assert step_seconds(spent) == 31.0
    assert closure_fraction(spent) == 14.0 / 31.0


def test_compiling_belongs_to_no_part_and_is_counted_once(clock, monkeypatch):
    """Also where it is an observer that comes first."""

    class Kernels:
        @fusion.fused
        def outer(self):
            clock.work(3.0)

    class Compiled:
        """Takes five seconds to make, and three to call."""

        def __init__(self, function, owner, *_):
            self.function, self.owner = function, owner
            clock.work(5.0)

        def __call__(self, tensors):
            return self.function(self.owner)

    monkeypatch.setattr(fusion, "Kernel", Compiled)
    monkeypatch.setattr(fusion.compiling, "enabled", True)
    timers, before, kernels = Timers(torch.device("cpu")), fusion.compiling.seconds, Kernels()
    for _ in range(2):
        with timers("statistics"):
            clock.work(1.0)
            kernels.outer()
    assert fusion.compiling.seconds - before == 5.0
    assert timers.seconds == {"statistics": 8.0}  # not the five seconds of the compiler


@pytest.mark.parametrize("kind", ["channel", "box"])
def test_an_eddy_viscosity_pays_for_its_gradients_and_for_nothing_else(clock, monkeypatch, kind):
    """A transform takes as many seconds as it has passes; the model's share is what its absence would save."""
    op = operators(kind)
    back, dims = op.transform.all_to_physical, len(op.grid.fourier_axes)

    def all_to_physical(fields, along):
        inside, found = clock.now, back(fields, along)
        clock.now = inside + sum(dims + sum(2 if d == 0 else 1 for d in axes if d != 1) for axes in along)
        return found

    def spent(closure: str) -> dict[str, float]:
        model = create(closure, grid=op.grid, nu=NU, options={})
        flow = simulation(op, random_velocity(op, 5), NU, 1e-3, closure=model)
        op.timers.reset()
        for _ in range(3):
            flow.step()
        return dict(op.timers.seconds)

    monkeypatch.setattr(op.transform, "all_to_physical", all_to_physical)
    none, wale = spent("none"), spent("wale")
    saved = step_seconds(wale) - step_seconds(none)
    assert saved > 0
    assert closure_fraction(none) == 0.0
    assert closure_fraction(wale) == pytest.approx(saved / step_seconds(wale), rel=1e-9)


def test_no_run_is_lost_to_its_own_timing(monkeypatch, caplog):
    def full(*_):
        raise MemoryError

    op = operators("channel")
    flow = simulation(op, random_velocity(op, 5), NU, 1e-3)
    flow.step()
    monkeypatch.setattr(performance, "fft_limit", full)
    found = performance.performance(flow, 1)
    assert found["seconds_per_step"] > 0
    assert math.isnan(found["fft_limit_ratio"])
    assert "not measured" in caplog.text


def test_the_line_names_what_compiling_took_and_nothing_that_is_unknown():
    summary = {"status": "finished", "steps": 191, "time": 1.0, "wall_seconds": 39.4, "compile_seconds": 31.25}
    timed = {"seconds_per_step": 0.0139, "ns_per_point_per_stage": 167.0, "fft_limit_ratio": 5.4}
    line = in_words(summary | timed)
    assert "in 39.4 s (31.2 s of it compiling kernels, once); 13.9 ms a step" in line
    assert line.endswith("5.40 x the FFT limit")
    unknown = in_words(summary | {"compile_seconds": 0.0} | dict.fromkeys(timed, float("nan")))
    assert unknown == "finished: 191 steps to t = 1 in 39.4 s"


def test_paused_timers_charge_nobody(clock):
    timers = Timers(torch.device("cpu"))
    with timers("graph"):
        clock.work(1.0)
        timers.paused = True
        with timers("closure"):
            clock.work(2.0)
        timers.paused = False
    assert timers.seconds == {"graph": 3.0}
    assert timers.calls == {"graph": 1}
    assert math.isnan(closure_fraction(timers.seconds))
