"""The pretend device refuses and counts what a GPU would mind."""

from __future__ import annotations

import pytest
import torch

from solver.discretisation.timers import Timers
from solver.parallel.late import Reading
from tests.gpu.pretend import Mixed, counted, pretended


def test_devices_do_not_mix():
    with pretended() as device:
        f = torch.ones(3, device=device)
        with pytest.raises(Mixed, match="add"):
            f + torch.ones(3)
        with pytest.raises(TypeError, match="numpy"):
            f.numpy()
        assert (f + torch.tensor(2.0)).tolist() == [3.0, 3.0, 3.0]  # a number of the CPU is an argument of the kernel


def test_copies_reads_and_waits_are_counted():
    with pretended() as device, counted() as tally:
        f = torch.as_tensor([1.0, 2.0], device=device)
        f = f + torch.ones(2).to(device)
        f[torch.tensor([0])] = 0.0
        assert tally.totals() == {"sent": 3, "read": 0, "waits": 0}
        float(f.sum()), f.cpu(), f.tolist(), bool(f[0] > 1)
        assert tally.totals() == {"sent": 3, "read": 4, "waits": 4}


def test_a_late_reading_waits_for_nothing_and_an_early_one_does():
    with pretended() as device, counted() as tally:
        late = Reading(torch.full((2,), 3.0, device=device))
        for _ in range(2):
            torch.ones(3, device=device)
        assert late() == [3.0, 3.0]
        assert tally.totals() == {"sent": 0, "read": 1, "waits": 0}
        Reading(torch.ones(1, device=device))()
        assert tally.totals() == {"sent": 0, "read": 2, "waits": 1}


def test_timers_charge_by_events_and_wait_only_when_asked():
    with pretended() as device, counted() as tally:
        timers = Timers(device)
        for _ in range(3):
            with timers("other"):
                torch.ones(3, device=device)
                with timers("closure"):
                    torch.ones(3, device=device)
        assert tally.waits.total() == 0
        seconds = timers.seconds
        assert tally.waits.total() == 1
        assert timers.calls == {"other": 3, "closure": 3}
        assert min(seconds["other"], seconds["closure"]) > 0
        timers.reset()
        assert not timers.seconds
