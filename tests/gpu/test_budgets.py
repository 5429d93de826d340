"""What a step asks of a device: nothing is sent, one number or so is read, and the queue is never empty for long.

The step length is read once the better part of a stage is queued behind it. A network's guard reads its verdict before
its answer may act, and a corrector's three: whether the flow is known to it, how large its answer is, and after the
projection how much energy that brings.
A multigrid solver reads three numbers an iteration. On large grids a stage takes as long as its bytes.
"""

from __future__ import annotations

import pytest
import torch

from solver.flow.runge_kutta import RK3
from solver.run import speed
from tests.gpu import flows
from tests.gpu.pretend import compiled, counted, pretended

BUDGETS = {  # reads, and waits among them
    "channel": (1, 0),
    "channel, smagorinsky": (1, 0),
    "channel, dynamic": (1, 0),
    "channel, wale": (1, 0),
    "channel, vreman": (1, 0),
    "channel, sigma": (1, 0),
    "channel, wall model": (1, 0),
    "channel, tbnn": (2, 1),
    "channel, corrector": (4, 3),
    "box": (1, 0),
    "box, held shells, dynamic": (1, 0),
    "box, dynamic, local": (1, 0),
    "mixing layer": (1, 0),
    "duct": (1, 0),
    "cavity": (1, 0),
}


@pytest.mark.parametrize("name", BUDGETS)
def test_what_a_step_asks_for(name):
    with pretended() as device:
        flow = flows.on(name, device)
        flow.step()
        with counted() as tally:
            flow.step()
        assert tally.kernels > 100
        reads, waits = BUDGETS[name]
        assert tally.totals() == {"sent": 0, "read": reads, "waits": waits}, str(tally)


@pytest.mark.parametrize(("kind", "most"), [("channel", 800.0), ("box", 720.0)])
def test_planes_move_fewer_bytes_than_lines(kind, most):
    """Bytes a point and stage without a model, float64, kernels compiled, with what torch does around cuFFT."""
    moved = {}
    for engine in ("lines", "planes"):
        with pretended() as device, compiled(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(speed, "choose_device", lambda wanted, device=device: device)
            flow = speed.flow_simulation((24, 96, 24), kind, "auto", torch.float64, lambda grid, nu: None)
            assert flow.operators.transform.engine == "auto"
            flow.operators.transform.engine = engine
            flow.step()
            with counted() as tally:
                flow.step()
            points = flow.operators.grid.x.points * flow.operators.grid.y.points * flow.operators.grid.z.points
            moved[engine] = tally.bytes / RK3.stages / points
    assert moved["planes"] < most
    assert moved["planes"] < 0.75 * moved["lines"]
