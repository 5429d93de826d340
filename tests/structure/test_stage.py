"""How far a stage has to go: Python calls and modules entered, which only ever become fewer."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

import pytest
import torch

from closures.registry.registry import create
from solver.flow.runge_kutta import RK3
from solver.run.speed import flow_simulation
from tests.runs import ROOT

# calls and modules of a channel's stage, kernels not fused; aimed at: 200 and 9, with WALE 300 and 11
BOUNDS = {"none": (272, 20), "wale": (451, 26)}


@pytest.mark.parametrize("closure", BOUNDS)
def test_a_stage_enters_no_more_than_it_did(closure):
    flow = flow_simulation(
        (16, 12, 16), "channel", "cpu", torch.float64, lambda grid, nu: create(closure, grid=grid, nu=nu)
    )
    for _ in range(2):  # what is worked out once has been
        flow.step()
    calls, modules = 0, set()
    ours = tuple(str(ROOT / package) for package in ("solver", "closures"))

    def entered(frame: FrameType, event: str, _: object) -> None:
        nonlocal calls
        if event == "call" and frame.f_code.co_filename.startswith(ours):
            calls += 1
            modules.add(Path(frame.f_code.co_filename))

    sys.setprofile(entered)
    try:
        flow.step()
    finally:
        sys.setprofile(None)
    assert len(modules) > 5
    assert calls / RK3.stages <= BOUNDS[closure][0]
    assert len(modules) <= BOUNDS[closure][1]
