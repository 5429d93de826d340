"""Flows and closures of every kind run on a device whose tensors do not mix with the CPU's, and are the same there."""

from __future__ import annotations

import pytest
import torch

from solver.flow.simulation import Simulation
from tests.closeness import assert_round_off
from tests.gpu import flows
from tests.gpu.pretend import OnDevice, pretended

LONG = 100.0  # units of `assert_round_off`: an engine of its own for the transforms, some thousand operations


def stepped(name: str, device: torch.device) -> Simulation:
    """A flow after its steps."""
    flow = flows.on(name, device)
    for _ in range(flows.FLOWS[name][2]):
        flow.step()
    return flow


@pytest.mark.parametrize("name", flows.FLOWS)
def test_same_fields_as_on_the_cpu(name):
    here = stepped(name, torch.device("cpu"))
    with pretended() as device:
        there = stepped(name, device)
        assert there.t == pytest.approx(here.t, rel=1e-12)
        fields = [(*flow.velocity.coefficients, flow.flow.pressure_coefficients(flow.state)) for flow in (there, here)]
        for found, expected in zip(*fields, strict=True):
            assert isinstance(found, OnDevice)
            assert_round_off(found.cpu(), expected, LONG)
