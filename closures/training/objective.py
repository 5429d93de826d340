"""What is minimised: a loss of one batch, and the errors by which a network is judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from closures.losses.registry import error_of
from closures.losses.relative_l2 import fluctuation_error, relative_l2
from closures.losses.sobolev import sobolev_error
from closures.operators.domain import Domain
from closures.operators.predictor import Predictor, Scaling
from closures.training.recipe import LossTable
from solver.errors import CaseError


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


def directions(mirrors: Sequence[str], domain: Domain) -> list[int]:
    """Those along which windows are to be reflected; raises CaseError where points would not fall on points."""
    found = ["xyz".index(name) for name in mirrors]
    for d in found:
        line = domain.lines[d]
        if not line.is_spectral and not torch.allclose(line.unit + line.unit.flip(0), torch.ones_like(line.unit)):
            raise CaseError(f"[loss] mirrors = '{'xyz'[d]}': the points along it are not symmetric: leave it out")
    return found


def mirrored(windows: Tensor, seeds: Sequence[int], along: Sequence[int], domain: Domain) -> Tensor:
    """`windows` (batch, frames, 3, nx, ny, nz), each reflected or not in the directions `along`, as its seed falls."""
    found = []
    for window, seed in zip(windows, seeds, strict=True):
        toss = torch.randint(2, (3,), generator=torch.Generator().manual_seed(seed)).tolist()
        for d in along:
            window = reflected(window, d, domain) if toss[d] else window
        found.append(window)
    return torch.stack(found)


def reflected(field: Tensor, d: int, domain: Domain) -> Tensor:
    """The mirror image along direction `d` of velocities (..., 3, nx, ny, nz).

    The first point of a spectral direction stays where it is; cells between walls change places.
    """
    image = field.flip(d - 3)
    image = image.roll(1, d - 3) if domain.lines[d].is_spectral else image
    signs = field.new_tensor([-1.0 if k == d else 1.0 for k in range(3)])
    return image * signs.reshape(3, 1, 1, 1)


class Rollout(nn.Module):
    """Mean relative error over the steps of a predicted window, from a first frame that may be perturbed."""

    def __init__(
        self, predictor: Predictor, domain: Domain, loss: LossTable, precision: Literal["float32", "bfloat16"]
    ) -> None:
        super().__init__()
        self.predictor, self.domain, self.loss = predictor, domain, loss
        self.network, self.frame_error = predictor.network, error_of(loss.kind)
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
        return self.frame_error(prediction, target, self.domain)

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
