"""A state operator with its units: velocity in, next velocity out."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from closures.operators.domain import Domain


class Scaling(BaseModel):
    """Numbers that make a velocity dimensionless and give the answer its size, one a component.

    ``state``: the network's answer is the next field, in units of `std` about `mean`. ``increment``: it is the change
    over the step, in units of `change`; a network that answers zero then predicts a frozen field.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
    target: Literal["state", "increment"]
    mean: tuple[float, float, float] = Field(strict=False)
    std: tuple[float, float, float] = Field(strict=False)
    change: tuple[float, float, float] = Field(strict=False)


class Predictor(nn.Module):
    """``u(t + step) = network((u - mean) / std)`` in the units of `scaling`.

    The scaling is part of the card and not of the weights: it has no buffers, so the weights are the network's alone.
    """

    def __init__(self, network: nn.Module, scaling: Scaling) -> None:
        super().__init__()
        self.network, self.scaling = network, scaling
        self._units: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def units(self, like: Tensor) -> Tensor:
        """Mean, std and change of the scaling, (3, 1, 3, 1, 1, 1), where and of what type `like` is; sent once."""
        key = like.device, like.dtype
        if key not in self._units:
            values = [self.scaling.mean, self.scaling.std, self.scaling.change]
            self._units[key] = torch.tensor(values, dtype=like.dtype, device=like.device).reshape(3, 1, 3, 1, 1, 1)
        return self._units[key]

    def forward(self, velocity: Tensor, domain: Domain) -> Tensor:
        """``(batch, 3, nx, ny, nz)`` at cell centres, velocity; the same one step later."""
        mean, std, change = self.units(velocity)
        answer: Tensor = self.network((velocity - mean) / std, domain).to(velocity.dtype)
        after: Tensor = velocity + change * answer if self.scaling.target == "increment" else mean + std * answer
        return after
