"""What is minimised: a loss of one batch, and the errors by which a network is judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from closures.losses.relative_l2 import fluctuation_error, relative_l2
from closures.losses.sobolev import sobolev_error
from closures.operators.domain import Domain
from closures.operators.predictor import Predictor, Scaling
from closures.training.recipe import LossTable


class Objective(Protocol):
    """A module whose call is the loss; `network` holds the weights that are trained."""

    network: nn.Module

    def __call__(self, batch: Tensor, seeds: Sequence[int]) -> Tensor:
        """The loss, a scalar; `seeds`, one a sample, are its only source of randomness."""
        ...

    def measure(self, batch: Tensor) -> dict[str, Tensor]:
        """Errors of each sample, by name; the first one selects the best weights."""
        ...


def perturbed(u: Tensor, seeds: Sequence[int], noise: float, scaling: Scaling) -> Tensor:
    """`u` (batch, 3, nx, ny, nz) with white noise of `noise` deviations, drawn for each sample from its own seed."""
    if noise == 0:
        return u
    drawn = [torch.randn(u.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    std = torch.tensor(scaling.std).reshape(3, 1, 1, 1)
    return u + (noise * std * torch.stack(drawn)).to(u)


class Rollout(nn.Module):
    """Mean relative error over the steps of a predicted window, from a first frame that may be perturbed."""

    def __init__(
        self, predictor: Predictor, domain: Domain, loss: LossTable, precision: Literal["float32", "bfloat16"]
    ) -> None:
        super().__init__()
        self.predictor, self.domain, self.loss = predictor, domain, loss
        self.network = predictor.network
        self.half_precision = precision == "bfloat16"

    def forward(self, batch: Tensor, seeds: Sequence[int]) -> Tensor:
        """``(batch, steps + 1, 3, nx, ny, nz)`` to the loss."""
        u, total = perturbed(batch[:, 0], seeds, self.loss.noise, self.predictor.scaling), batch.new_zeros(())
        for k in range(1, batch.shape[1]):
            u = self.step(u if self.loss.through else u.detach())
            total = total + self.error(u, batch[:, k]).mean()
        return total / (batch.shape[1] - 1)

    def step(self, u: Tensor) -> Tensor:
        """One prediction; the network may run in half precision, the velocity never does."""
        with torch.autocast(u.device.type, torch.bfloat16, enabled=self.half_precision):
            return self.predictor(u, self.domain)

    def error(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The relative error of the recipe, (batch,)."""
        if self.loss.kind == "sobolev":
            return sobolev_error(prediction, target, self.domain, self.loss.length)
        return relative_l2(prediction, target, self.domain)

    def measure(self, batch: Tensor) -> dict[str, Tensor]:
        """Errors of one step and, for windows of several, of the last; what no change at all would score."""
        first, last = batch[:, 0], batch.shape[1] - 1
        u = self.step(first)
        errors = {
            "fluctuation_error": fluctuation_error(u, batch[:, 1], self.domain),
            "relative_l2": relative_l2(u, batch[:, 1], self.domain),
            "frozen_fluctuation_error": fluctuation_error(first, batch[:, 1], self.domain),
        }
        for _ in range(1, last):
            u = self.step(u)
        if last > 1:
            errors[f"fluctuation_error_{last}"] = fluctuation_error(u, batch[:, last], self.domain)
        return errors
