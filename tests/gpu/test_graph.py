"""Steps by graphs are the steps kernel by kernel, ask for as little, and are recorded again when they have to be."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from solver.errors import CaseError, Diverged
from solver.flow import graph
from solver.flow.closure import EddyViscosity
from solver.flow.simulation import Simulation
from tests.closeness import assert_round_off
from tests.gpu import flows
from tests.gpu.pretend import NAME, NotOfAGraph, Recorder, counted, pretended

# by name, with the graphs that steps one after another have: of the closure's calls, or one
RECORDED = {
    "channel": 1,
    "channel, dynamic": 2,
    "channel, wall model": 2,
    "box": 1,
    "box, held shells, dynamic": 2,
    "box, dynamic, local": 1,
    "duct": 1,
    "cavity": 1,
}
PLAIN = {
    "channel, tbnn": "the closure 'tbnn' may ask the host",
    "channel, corrector": "the closure 'differential_corrector' may ask the host",
    "channel, surrogate": "the closure 'differential_surrogate' may ask the host",
    "cubes": "an iterative pressure solver",
}


@contextmanager
def recorders(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """The pretend device, with graphs."""
    monkeypatch.setitem(graph.RECORDERS, NAME, Recorder)
    with pretended() as device:
        yield device


def by_graphs(flow: Simulation) -> tuple[graph.GraphStep, Recorder]:
    """The stepper of a flow, and what recorded it."""
    assert isinstance(flow.stepper, graph.GraphStep)
    assert isinstance(flow.stepper.recorder, Recorder)
    return flow.stepper, flow.stepper.recorder


@pytest.mark.parametrize("name", RECORDED)
def test_same_steps(name, monkeypatch):
    compare_steps(name, monkeypatch)


@pytest.mark.parametrize("closure", ["easm", "two_part"])
def test_same_steps_with_stresses(closure, monkeypatch):
    case, overrides, steps = flows.FLOWS["channel"]
    overrides = *overrides[:-1], *flows.closure(closure)
    monkeypatch.setitem(flows.FLOWS, closure, (case, overrides, steps))
    monkeypatch.setitem(RECORDED, closure, 1)
    compare_steps(closure, monkeypatch)


@pytest.mark.parametrize("override", ["time.frame=0.4", "time.implicit_diffusion=on"])
def test_same_steps_of_other_schemes(override, monkeypatch):
    case, overrides, steps = flows.FLOWS["channel"]
    monkeypatch.setitem(flows.FLOWS, override, (case, (*overrides, override), steps))
    monkeypatch.setitem(RECORDED, override, 1)
    compare_steps(override, monkeypatch)


def compare_steps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three steps of a flow by graphs and kernel by kernel."""
    with pretended() as device:
        plain = flows.on(name, device)
    with recorders(monkeypatch) as device:
        flow = flows.on(name, device)
        for _ in range(3):
            plain.step(wait=0.7)
            flow.step(wait=0.7)
        assert (flow.t, flow.dt, flow.step_count) == (pytest.approx(plain.t), pytest.approx(plain.dt), 3)
        assert (flow.control.limit, flow.control.advection_rate) == (
            plain.control.limit,
            pytest.approx(plain.control.advection_rate),
        )
        assert by_graphs(flow)[1].recordings == RECORDED[name]
        states = flow.state, plain.state
        fields = [[*s.velocity.coefficients, *s.closure.values(), f.flow.pressure_coefficients(s)]
                  for s, f in zip(states, (flow, plain), strict=True)]  # fmt: skip
        for found, expected in zip(*fields, strict=True):
            assert_round_off(found.cpu().double(), expected.cpu().double(), 10.0)
        assert float(flow.state.drive) == pytest.approx(float(plain.state.drive), nan_ok=True)


def test_what_a_step_asks_for(monkeypatch):
    """Two graphs, copies of what differs and of what comes out: not the hundreds of kernels in between."""
    with recorders(monkeypatch) as device:
        flow = flows.on("channel, wale", device)
        flow.step()
        with counted() as tally:
            flow.step()
        assert tally.kernels < 20
        assert tally.totals() == {"sent": 0, "read": 1, "waits": 0}, str(tally)


def test_states_stay_as_they_are(monkeypatch):
    with recorders(monkeypatch) as device:
        flow = flows.on("channel, dynamic", device)
        flow.step()
        before = flow.state
        kept = [f.cpu() for f in (*before.velocity.coefficients, before.pressure.potential, before.closure["c_s2"])]
        flow.step()
        flow.step()
        now = (*before.velocity.coefficients, before.pressure.potential, before.closure["c_s2"])
        assert all(torch.equal(f.cpu(), g) for f, g in zip(now, kept, strict=True))
        later = flow.velocity.coefficients
        flow.state = before  # an earlier state, as after a refused correction, leads where it led
        flow.step()
        flow.step()
        assert all(torch.equal(f.cpu(), g.cpu()) for f, g in zip(flow.velocity.coefficients, later, strict=True))


def test_recorded_again(monkeypatch):
    with recorders(monkeypatch) as device:
        flow = flows.on("channel, dynamic", device)
        _, recorder = by_graphs(flow)
        for _ in range(4):
            flow.step()
        assert recorder.recordings == 2  # calls 0, 1, 2 and 1, 0, 1 of two
        flow.step(wait=1.0)
        assert recorder.recordings == 3  # the last step before something is due is another
        flow.step(longest=1e-5)
        assert flow.dt == pytest.approx(1e-5)
        assert recorder.recordings == 3  # how far is a number
        c_s2 = flow.closure_state["c_s2"]
        flow.state = replace(flow.state, closure=flow.closure_state | {"c_s2": c_s2.float()})
        flow.step()
        assert recorder.recordings == 4  # other memory


def test_counters_that_a_checkpoint_has_put_on_the_device(monkeypatch):
    with recorders(monkeypatch) as device:
        flow = flows.on("channel, dynamic", device)
        flow.step()
        calls = flow.closure_state["calls"]
        flow.state = replace(flow.state, closure=flow.closure_state | {"calls": calls.to(device)})
        flow.step()
        assert int(flow.closure_state["calls"]) == 6


def test_a_flow_that_diverges_says_so(monkeypatch):
    with recorders(monkeypatch) as device:
        flow = flows.on("channel", device)
        flow.step()
        u, v, w = flow.velocity.coefficients
        flow.state = replace(flow.state, velocity=flow.flow.velocity((u * math.nan, v, w)))
        with pytest.raises(Diverged):
            flow.step()
        assert flow.step_count == 1


def test_gradients_are_recorded_by_plain_steps(monkeypatch):
    with recorders(monkeypatch) as device:
        flow = flows.on("channel", device)
        with torch.enable_grad():
            flow.stepper(flow.state)
        assert not by_graphs(flow)[1].recordings


class Asks:
    """Declares what it does not keep."""

    name, reach, graph_cycle = "asks", 0, 1

    def init(self, operators):
        return {}

    def __call__(self, velocity, t, state):
        largest = float(velocity.centred[0].max())
        return EddyViscosity(torch.full_like(velocity.centred[0], 1e-9 * largest)), state


def test_a_closure_that_asks_the_host_after_all(monkeypatch):
    with recorders(monkeypatch) as device:
        flow = flows.on("channel", device)
        flow.flow.closure = Asks()
        with pytest.raises(NotOfAGraph, match=r"read at tests|read at solver"):
            flow.step()


@pytest.mark.parametrize("name", PLAIN)
def test_flows_that_stay_plain(name, monkeypatch):
    with recorders(monkeypatch) as device:
        flow = flows.on(name, device)
        assert PLAIN[name] in graph.obstacle(flow.flow)
        assert not isinstance(flow.stepper, graph.GraphStep)
        with pytest.raises(CaseError, match=r"\[run\] graph = 'on': .*: use 'auto' or 'off'"):
            graph.choose_recorder("on", flow.flow)


def test_who_chooses(monkeypatch):
    flow = flows.on("channel, dynamic", torch.device("cpu"))
    assert graph.choose_recorder("auto", flow.flow) is None
    with pytest.raises(CaseError, match=r"graph = 'on': steps on 'cpu' are no graphs"):
        graph.choose_recorder("on", flow.flow)
    with recorders(monkeypatch) as device:
        flow = flows.on("channel, dynamic", device)
        assert isinstance(graph.choose_recorder("auto", flow.flow), Recorder)
        assert graph.choose_recorder("off", flow.flow) is None
        flow.closure.graph_cycle = 100
        assert "has 100 different steps" in graph.obstacle(flow.flow)
