"""A network asked once a step: how often that is, what is kept between steps, and what it costs in accuracy."""

from __future__ import annotations

import pytest
import torch

from closures.coupling import GuardedModel, GuardTable, SubgridModel
from closures.coupling.zero_order_hold import HELD, LEFT, STAGES
from tests.coupling.flows import NU, channel, closure, flow, small, write


class Counted(torch.nn.Module):
    """A network that counts how often it is asked."""

    kind, reach, symmetries = "stress", 0, frozenset()

    def __init__(self, network):
        super().__init__()
        self.network, self.asked = network, 0

    def forward(self, gradient, cells):
        self.asked += 1
        return self.network(gradient, cells)


@pytest.fixture(autouse=True)
def plain_run():
    with torch.no_grad():
        yield


def run(calls, steps, dt, form="stress", guarded=False):
    """A channel after some steps, and its network."""
    grid = channel()
    network = Counted(small("tensor_basis", scale=0.3))
    model = SubgridModel(network, grid=grid, nu=NU, form=form, precision="float64", calls=1 if guarded else calls)
    if guarded:
        model = GuardedModel(model, None, GuardTable(size=1e3, injection=1e3), None, calls)
    simulation = flow(grid, model, dt=dt)
    for _ in range(steps):
        simulation.step()
    return simulation, network


@pytest.mark.parametrize("guarded", [False, True])
@pytest.mark.parametrize("form", ["stress", "eddy_viscosity"])
def test_a_step_asks_once_and_leaves_nothing_behind(form, guarded):
    held, network = run(STAGES, 4, 0.01, form, guarded)
    assert network.asked == 4
    assert not {LEFT, *HELD} & set(held.closure_state)
    _, network = run(1, 4, 0.01, form, guarded)
    assert network.asked == 4 * STAGES


def test_what_is_held_is_the_answer_of_the_first_call():
    simulation, _ = run(1, 2, 0.01)
    model = SubgridModel(small("tensor_basis", scale=0.3), grid=channel(), nu=NU, precision="float64", calls=3)
    first, state = model(simulation.velocity, 0.0, model.init(simulation.operators))
    simulation.step()
    second, state = model(simulation.velocity, 0.0, state)
    third, state = model(simulation.velocity, 0.0, state)
    for a, b, c in zip(first.tau, second.tau, third.tau, strict=True):
        assert a is b is c
    fourth, _ = model(simulation.velocity, 0.0, state)
    assert not torch.equal(fourth.tau[3], first.tau[3])


def test_holding_is_of_first_order_in_time():
    """Against an answer at every stage the difference at one time halves with the step."""

    def difference(steps):
        ends = [run(calls, steps, 0.16 / steps)[0].velocity.coefficients for calls in (1, STAGES)]
        return float(torch.stack([(a - b).abs().square().sum() for a, b in zip(*ends, strict=True)]).sum().sqrt())

    coarse, fine = difference(8), difference(16)
    assert fine > 0
    assert coarse / fine == pytest.approx(2.0, rel=0.1)


def test_a_case_says_whether_a_network_is_asked_at_every_stage(tmp_path):
    folder = write(tmp_path / "a", "tensor_basis")
    assert closure("subgrid_model", folder, channel()).hold.calls == STAGES
    assert closure("subgrid_model", folder, channel(), each="stage").hold.calls == 1
