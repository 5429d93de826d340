"""What a step asks of a device: nothing is sent, one number or so is read, and the queue is never empty for long.

The step length is read once the better part of a stage is queued behind it. A network's guard reads its verdict before
its answer may act, and a corrector's three: whether the flow is known to it, how large its answer is, and after the
projection how much energy that brings.
A multigrid solver reads three numbers an iteration.
"""

from __future__ import annotations

import pytest

from tests.gpu import flows
from tests.gpu.pretend import counted, pretended

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
