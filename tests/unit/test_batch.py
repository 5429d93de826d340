"""Flows that are advanced as one: each is what it is by itself."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from closures.registry.registry import create
from solver.errors import CaseError, Diverged
from solver.flow.batch import Batch, refusal
from solver.flow.flow import Flow
from solver.flow.forcing import MassFlux, PressureGradient, bulk_velocity
from solver.flow.initial import wall_turbulence
from solver.flow.simulation import Simulation
from solver.flow.time_step import StepControl
from tests.grids import GRIDS, operators, random_velocity, simulation

NU, BULK = 1 / 2000, 0.8
GRID = GRIDS["channel"]
SEEDS = (731_204, 255_871, 902_116)


class Corrector:
    """Changes nothing after steps."""

    name, reach, facts = "corrector", 0, {}

    def init(self, op):
        return {}

    def __call__(self, velocity, t, state):
        return None, state

    def wait(self, t):
        return math.inf

    def correct(self, velocity, t, step, state, project):
        return None, state


def flows(name="none", options=None, seeds=SEEDS, forcing=lambda op: MassFlux(op, BULK), dt=None, frame=0.0):
    """Turbulent noise of different strengths, each flow with operators and a closure of its own."""
    found = []
    for number, seed in enumerate(seeds):
        op = operators(GRID)
        closure = create(name, grid=GRID, nu=NU, options=options or {})
        u = wall_turbulence(op, BULK, NU, 0.6 + 0.5 * number, seed)
        flow, control = Flow(op, NU, closure, forcing(op), frame=frame), StepControl(op, 1.0, dt, frame=frame)
        found.append(Simulation(flow, flow.start(u), control))
    return found


def distance(a, b):
    """Largest difference over the largest value."""
    return float((a - b).abs().max() / b.abs().max().clamp_min(1e-300))


def assert_same(one: Simulation, other: Simulation, tolerance=1e-12):
    """The same state, up to round-off."""
    a, b = one.state, other.state
    assert (a.t, a.dt) == pytest.approx((b.t, b.dt), rel=tolerance)
    assert a.step == b.step
    assert max(map(distance, a.velocity.coefficients, b.velocity.coefficients)) < tolerance
    assert distance(a.pressure.potential, b.pressure.potential) < 1e3 * tolerance
    assert a.pressure.span == pytest.approx(b.pressure.span, rel=tolerance)
    assert float(a.drive) == pytest.approx(float(b.drive), rel=1e3 * tolerance)
    assert a.closure.keys() == b.closure.keys()
    assert all(distance(f.double(), b.closure[key].double()) < tolerance for key, f in a.closure.items())


CLOSURES = {
    "none": {},
    "wale": {},
    "smagorinsky": {},
    "dynamic_smagorinsky": {"every": 4},
    "two_part": {"model": "dynamic_smagorinsky"},
    "stabilised_mixed": {},
    "lagrangian_dynamic_smagorinsky": {},
}
IN_TURN = ("stabilised_mixed", "lagrangian_dynamic_smagorinsky")


@pytest.mark.parametrize("name", CLOSURES)
def test_every_flow_is_what_it_is_by_itself(name):
    """After 20 steps of lengths of its own, with all that is remembered."""
    alone, together = flows(name, CLOSURES[name]), flows(name, CLOSURES[name])
    batch = Batch(together)
    assert type(batch.closure).__name__ == ("InTurn" if name in IN_TURN else "Jointly")
    for _ in range(20):
        batch.step()
        for flow in alone:
            flow.step()
    assert len({flow.dt for flow in alone}) == len(alone)
    for one, other in zip(together, alone, strict=True):
        assert_same(one, other)
        assert one.control.limit == other.control.limit
        assert float(bulk_velocity(one.operators, one.velocity.coefficients[0])) == pytest.approx(BULK, rel=1e-12)


def check_alike(batch, alone):
    """Five steps of a batch are those of its flows by themselves."""
    for _ in range(5):
        batch.step()
        for flow in alone:
            flow.step()
    for one, other in zip(batch.simulations, alone, strict=True):
        assert_same(one, other)


def test_a_frame_moves_with_all_of_them():
    """Also where it is moved back by a distance of each."""
    alone, together = flows("wale", frame=0.5), flows("wale", frame=0.5)
    check_alike(Batch(together), alone)


def test_closures_of_their_own_are_asked_for_their_own_flow():
    constants = (0.05, 0.1, 0.2)
    alone, together = ([flows("smagorinsky", {"c_s": c}, SEEDS[:1])[0] for c in constants] for _ in range(2))
    check_alike(Batch(together, alike=False), alone)
    assert distance(together[0].velocity.coefficients[0], together[2].velocity.coefficients[0]) > 1e-6


def test_a_flow_may_leave_its_batch_and_join_one():
    """Steps together and alone in any order are those of one run, also of a closure that counts and remembers."""
    name, options = "dynamic_smagorinsky", {"every": 4}
    alone, first, second = (flows(name, options) for _ in range(3))
    batch = Batch(first)
    for flow in alone:
        for _ in range(7):
            flow.step()
    for _ in range(3):
        batch.step()
    for flow, other in zip(first, second, strict=True):  # on with other operators
        velocity = other.flow.velocity(tuple(c.clone() for c in flow.velocity.coefficients))
        other.state = replace(flow.state, velocity=velocity)
        other.step()
    later = Batch(second)
    for _ in range(3):
        later.step()
    for one, other in zip(second, alone, strict=True):
        assert_same(one, other)


def test_flows_that_count_differently_do_not_go_together():
    together = flows("dynamic_smagorinsky", {"every": 4})
    together[1].step()
    with pytest.raises(CaseError, match="closure 'dynamic_smagorinsky': flows of a batch differ in calls"):
        Batch(together)


def test_flows_of_different_kinds_do_not_go_together():
    with pytest.raises(CaseError, match="a batch of flows has one grid, precision, viscosity and control of the step"):
        Batch([*flows(seeds=SEEDS[:1]), *flows(seeds=SEEDS[1:], dt=0.01)])


def test_a_lost_flow_is_named_and_disturbs_no_other():
    alone, together = flows("wale"), flows("wale")
    batch = Batch(together)
    batch.step()
    broken = tuple(c * math.nan for c in together[1].velocity.coefficients)
    together[1].state = replace(together[1].state, velocity=together[1].flow.velocity(broken))
    for _ in range(3):
        batch.step()
    for _ in range(4):
        alone[0].step()
        alone[2].step()
    assert list(batch.lost) == [1]
    assert isinstance(batch.lost[1], Diverged)
    assert together[1].step_count == 1
    assert_same(together[0], alone[0])
    assert_same(together[2], alone[2])


def test_each_step_is_as_short_as_it_is_told():
    together = flows(forcing=lambda op: PressureGradient(op, 0.01))
    Batch(together).step([1e-3, math.inf, 2e-3])
    assert [flow.t for flow in together][::2] == pytest.approx([1e-3, 2e-3], rel=1e-12)
    assert together[1].t > 2e-3
    assert [flow.state.drive for flow in together] == [0.01] * 3


@pytest.mark.gradients
@pytest.mark.parametrize("name", ["none", "two_part"])
def test_the_gradient_of_a_batch_is_that_of_its_flows(name):
    """Of a quadratic functional after three steps with respect to where they begin."""
    alone, together = flows(name, dt=0.01), flows(name, dt=0.01)
    batch = Batch(together)
    begun = [flow.velocity.coefficients[0].clone().requires_grad_() for flow in alone]
    ends = []
    for flow, u in zip(alone, begun, strict=True):
        state = flow.flow.start((u.clone(), *flow.velocity.coefficients[1:]), settled=True)
        for _ in range(3):
            state = flow.stepper(state)
        ends.append(flow.operators.norm(state.velocity.coefficients) ** 2)
    wanted = torch.autograd.grad(torch.stack(ends).sum(), begun)
    at_once = [u.detach().clone().requires_grad_() for u in begun]
    velocities = [(u.clone(), *flow.velocity.coefficients[1:]) for u, flow in zip(at_once, alone, strict=True)]
    state = batch.begun(velocities)
    for _ in range(3):
        state = batch.stepper(state)
    squares = batch.flow.operators.norm(state.velocity.coefficients) ** 2
    assert squares.flatten().tolist() == pytest.approx(torch.stack(ends).tolist(), rel=1e-12)
    found = torch.autograd.grad(squares.sum(), at_once)
    assert all(distance(a, b) < 1e-10 for a, b in zip(found, wanted, strict=True))
    assert all(torch.isfinite(f).all() and f.abs().max() > 0 for f in found)


@pytest.mark.parametrize(
    ("grid", "closure", "reason"),
    [
        ("duct", None, "axes other than Fourier, finite volumes, Fourier"),
        ("box", None, "axes other than Fourier, finite volumes, Fourier"),
        ("channel", Corrector(), "a closure that acts between steps"),
    ],
)
def test_what_cannot_go_together_is_refused(grid, closure, reason):
    op = operators(grid)
    one = simulation(op, random_velocity(op, 470_215), NU, 0.01, closure=closure)
    assert refusal(one.flow) == reason
    with pytest.raises(CaseError, match=f"a batch of flows cannot have {reason}: run them one after another"):
        Batch([one, one])
