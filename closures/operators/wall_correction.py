"""What a law of the wall lacks away from equilibrium, as a network: near other walls, and far from the wall."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import linear

from closures.algebraic.wall_laws import KAPPA, B
from solver.flow.wall_stress import WallSample

FADE = 0.5  # of every feature: how far beyond the data the correction ends
FEATURES = 3


def features(sample: WallSample, speed: Tensor) -> Tensor:
    """``ln(U y / nu)``, ``ln(y / depth)`` and ``y / (y + beside)``, (..., 3), for U = `speed` > 0 in a sample."""
    re = torch.log(speed) + math.log(sample.height / sample.nu)
    deep = torch.full_like(re, math.log(sample.height / sample.depth) if math.isfinite(sample.depth) else -1e3)
    beside = torch.as_tensor(sample.beside, dtype=re.dtype, device=re.device)
    return torch.stack([re, deep, (sample.height / (sample.height + beside)).expand_as(re)], dim=-1)


class WallCorrection(nn.Module):
    """``ln(tau / tau_law) = w bound tanh((f(Re, y / depth) + s g(Re, s)) / bound)``, ``s = y / (y + beside)``.

    f is what the law lacks along a single wall, g what another wall at the distance `beside` adds: none where there is
    no other one. w is 1 where every feature is within `low` and `high`, the range of the training data, and falls to
    zero, smoothly, `FADE` beyond: there the law acts as it is, in the viscous layer and at high Reynolds numbers alike.

    Parameters
    ----------
    width : of the two layers of f and of g.
    bound : of the correction.
    kappa, intercept : of the law that is corrected.
    """

    kind: Literal["wall"] = "wall"
    low: Tensor
    high: Tensor

    def __init__(
        self,
        *,
        width: Annotated[int, Field(ge=1, le=64)] = 8,
        bound: Annotated[float, Field(gt=0, le=2)] = 0.4,
        kappa: Annotated[float, Field(gt=0.1, lt=1)] = KAPPA,
        intercept: Annotated[float, Field(gt=0, lt=20)] = B,
    ) -> None:
        super().__init__()
        self.bound, self.kappa, self.intercept = bound, kappa, intercept
        self.along, self.corner = _perceptron(width), _perceptron(width)
        for name, value in (("low", 0.0), ("high", 1.0)):
            self.register_buffer(name, torch.full((FEATURES,), value))

    def fit_range(self, rows: Tensor) -> None:
        """Take `low` and `high` from the features of the training data, (samples, 3)."""
        self.low, self.high = rows.amin(0).to(self.low), rows.amax(0).to(self.high)

    def forward(self, x: Tensor) -> Tensor:
        """``ln(tau / tau_law)`` from `features`, of their shape without the last dimension."""
        low, high = self.low.to(x), self.high.to(x)
        x = torch.minimum(torch.maximum(x, low - FADE), high + FADE)
        beyond = (torch.relu(low - x) + torch.relu(x - high)) / FADE
        window = (1.0 - beyond * beyond).prod(-1) ** 2
        place = 2.0 * (x - low) / (high - low).clamp_min(1e-6) - 1.0
        side = x[..., 2].clamp_min(0.0)
        found = _evaluated(self.along, place[..., :2]) + side * _evaluated(self.corner, place[..., ::2])
        return window * self.bound * torch.tanh(found / self.bound)


def _perceptron(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1))


def _evaluated(network: nn.Sequential, x: Tensor) -> Tensor:
    """The network in the precision of `x`."""
    for layer in network:
        x = linear(x, layer.weight.to(x), layer.bias.to(x)) if isinstance(layer, nn.Linear) else torch.tanh(x)
    return x[..., 0]
