"""What passes between ranks, seen from one: numbers that are not finite, and gradients that would end."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from solver.errors import CaseError
from solver.parallel import ranks
from solver.parallel.slabs import Slabs


def test_infinity_stays_infinite_and_nan_wins():
    slabs = Slabs(4, 4, False)
    assert slabs.max(torch.tensor([math.inf, 2.0])).tolist() == [math.inf, 2.0]
    assert slabs.max(torch.tensor([-math.inf])).item() == -math.inf
    assert slabs.max(torch.tensor([math.nan])).isnan().all()


@pytest.mark.parametrize("pass_on", ["sum", "max", "halo", "to_modes", "to_planes"])
def test_a_gradient_does_not_end_between_ranks_without_a_word(pass_on):
    slabs = Slabs(4, 4, True, SimpleNamespace(rank=0, size=2))
    field = torch.ones(1, 4 if pass_on == "to_modes" else 2, 4 if pass_on == "to_planes" else 2, 3, requires_grad=True)
    with (
        torch.enable_grad(),
        pytest.raises(CaseError, match="gradients do not pass between ranks here: record them within"),
    ):
        getattr(slabs, pass_on)(field)


def test_a_rank_makes_its_own_gpu_the_current_one(monkeypatch):
    """Events and waits that name no device are about this one, not about the first of the node."""
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(ranks, "local_rank", lambda: 6)
    assert ranks.choose_device("auto") == torch.device("cuda", 2)
    assert chosen == [torch.device("cuda", 2)]
    assert ranks.choose_device("cpu") == torch.device("cpu")
    assert len(chosen) == 1
