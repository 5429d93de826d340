"""Shipped operators in place of the solver's steps, in the flow they were trained in, from a field they never saw."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from closures.coupling.guard import COUNTS
from closures.operators.shipped import shipped
from solver.case.case import load_case
from solver.flow.forcing import bulk_velocity
from solver.run import build

CASES = Path(__file__).parents[2] / "cases"
END = 0.2  # ten applications
OPERATORS = [name for name in shipped() if name.startswith("hit_decay")]
CHANNEL = ["channel180_coarse_lesnets", "ifactformer_m"]


def begun(closure, *overrides, flow="hit_decay"):
    """The simulation of a flow at its start."""
    case, folder = load_case(CASES / flow, ("run.dtype=float32", "run.fuse=off", *overrides), closure)
    return build.build(build.Source(case, folder, flow))


@torch.no_grad()
def until(end, simulation):
    """The simulation at the time `end`."""
    while simulation.t < end - 1e-6:
        simulation.step(end - simulation.t)
    return simulation


def after(closure, *overrides):
    """The simulation of decaying turbulence at `END`."""
    return until(END, begun(closure, *overrides))


def distance(a, b):
    """Relative, of two velocities."""
    inner = a.operators.inner_product
    pairs = list(zip(a.velocity.coefficients, b.velocity.coefficients, strict=True))
    apart = sum(float(inner(u - v, u - v, i)) for i, (u, v) in enumerate(pairs))
    return (apart / sum(float(inner(v, v, i)) for i, (_, v) in enumerate(pairs))) ** 0.5


@pytest.fixture(scope="module")
def les():
    return after("smagorinsky", "closure.c_s=0.05", "time.dt=0.01")


@pytest.mark.parametrize("name", OPERATORS)
def test_takes_the_place_of_steps(name, les):
    """Nearer to LES than a tenth of the way that the flow has gone; nothing refused, nothing diverges."""
    found = after(name)
    assert int(found.closure_state[COUNTS][0]) == 0
    assert found.step_count == 10
    assert distance(found, les) < 0.1 * distance(begun("none"), les)
    assert found.max_divergence < 1e-5


@pytest.fixture(scope="module")
def turbulent():
    """A channel when its first perturbations have broken down."""
    return until(40.0, begun("wale", flow="channel180_coarse"))


@pytest.mark.parametrize("name", CHANNEL)
def test_takes_the_place_of_steps_between_walls(name, turbulent):
    """Five applications, one time unit, in which most of the fluctuations are carried elsewhere."""
    start, ends = turbulent.velocity.coefficients, []
    for closure in ("wale", name):
        now = ("closure.start=0",) if closure == name else ()
        simulation = begun(closure, *now, flow="channel180_coarse")
        velocity = simulation.flow.velocity(tuple(c.clone() for c in start))
        simulation.state = replace(simulation.state, velocity=velocity)
        ends.append(until(1.0, simulation))
    les, found = ends
    assert int(found.closure_state[COUNTS][0]) == 0
    assert found.step_count == 5
    assert distance(found, les) < 0.2 * distance(turbulent, les)
    assert found.max_divergence < 1e-5


def test_before_their_data_begin_the_solver_leads():
    """Unless told otherwise: a field that is not turbulent yet is none that they know."""
    simulation = until(1.0, begun("ifactformer_m", "closure.base='none'", "time.dt=0.1", flow="channel180_coarse"))
    alone = until(1.0, begun("none", "time.dt=0.1", flow="channel180_coarse"))
    assert simulation.step_count == alone.step_count == 10
    assert distance(simulation, alone) == 0


@pytest.mark.parametrize("corrector", ["ifactformer_m_corrector", "differential_corrector", "differential_surrogate"])
def test_what_corrects_bends_the_flow_and_no_more(turbulent, corrector):
    """Some answers: felt, a small part of what the flow does by itself; divergence and mass flux as without."""
    ends = []
    everything = "closure.guard.familiar=1e30"  # this flow is younger than those that they know
    for closure, more in (("dynamic_smagorinsky", ()), (corrector, (everything,))):
        simulation = begun(closure, "time.dt=0.1", *more, flow="channel180_coarse")
        start = tuple(c.clone() for c in turbulent.velocity.coefficients)
        simulation.state = replace(simulation.state, velocity=simulation.flow.velocity(start))
        ends.append(until(1.0, simulation))
    les, found = ends
    assert found.closure_state[COUNTS].tolist() == [0, 0, 0]
    assert 0.01 < distance(found, les) / distance(turbulent, les) < 0.3
    assert found.max_divergence < 1e-5
    flux = [float(bulk_velocity(s.operators, s.velocity.coefficients[0])) for s in ends]
    assert flux[0] == pytest.approx(flux[1], rel=1e-6)


def test_they_are_shipped():
    assert len(OPERATORS) >= 4
    assert set(CHANNEL) <= set(shipped())
