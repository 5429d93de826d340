"""A network and a loss as other people write them; not a test itself."""

from __future__ import annotations

import torch
from torch import nn


class Mixing(nn.Module):
    """Mixes the components with a matrix, a profile over y that its constructor computes, and their neighbours in x."""

    kind, grid_free, symmetries = "state", True, frozenset({"shift"})

    def __init__(self, width: int = 4, gain: float = 1.0):
        super().__init__()
        self.inward, self.outward = nn.Linear(6, width), nn.Linear(width, 3)
        self.gain = torch.tensor(gain)  # no weight: it has to be there after loading too

    def forward(self, field, domain):
        seen = torch.cat([field, field.roll(1, 2)], 1).movedim(1, -1)
        return self.gain * self.outward(torch.tanh(self.inward(seen))).movedim(-1, 1)


class Farsighted(Mixing):
    """Reads an odd number of planes."""

    reach = -1


class Kindless(nn.Module):
    """Does not say what it answers."""

    def __init__(self, *, width: int = 4):
        super().__init__()


def largest(prediction, target, domain):
    """The largest difference anywhere."""
    return (prediction - target).abs().amax((1, 2, 3, 4))


def scalar(prediction, target, domain):
    """One number for all samples."""
    return (prediction - target).square().mean()


POINTS = {
    "solver.operators": {"mixing": "Mixing", "kindless": "Kindless", "farsighted": "Farsighted", "fno": "Mixing"},
    "solver.losses": {"largest": "largest", "scalar": "scalar"},
}
