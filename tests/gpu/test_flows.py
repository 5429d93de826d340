"""Flows and closures of every kind run on a device whose tensors do not mix with the CPU's, and are the same there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from solver import parallel
from solver.assembly import build
from solver.simulation import Simulation
from tests.closeness import assert_round_off
from tests.gpu import flows
from tests.gpu.pretend import OnDevice, counted, pretended

LONG = 100.0  # units of `assert_round_off`: an engine of its own for the transforms, some thousand operations


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """Where runs go that choose a device."""
    with pretended() as device:
        monkeypatch.setattr(parallel, "choose_device", lambda wanted: device)
        yield device


def stepped(name: str, steps: int, *overrides: str) -> Simulation:
    flow = build(flows.source(name, *overrides))
    for _ in range(steps):
        flow.step()
    return flow


@pytest.mark.parametrize("name", flows.FLOWS)
def test_same_fields_as_on_the_cpu(name, device):
    steps = flows.FLOWS[name][2]
    there = stepped(name, steps)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "choose_device", lambda wanted: torch.device("cpu"))
        here = stepped(name, steps)
    assert there.t == pytest.approx(here.t, rel=1e-12)
    for found, expected in zip(
        (*there.velocity.coefficients, there.potential), (*here.velocity.coefficients, here.potential), strict=True
    ):
        assert isinstance(found, OnDevice)
        assert_round_off(found.cpu(), expected, LONG)
