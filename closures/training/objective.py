"""What is minimised: a loss of one batch, and the errors by which a network is judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from closures.losses.objective import LOSS, MeanOfSamples
from closures.losses.registry import error_of
from closures.losses.relative_l2 import fluctuation_error, relative_l2
from closures.operators.domain import Domain
from closures.operators.predictor import Predictor
from closures.training.tables import LossTable
from solver.errors import CaseError

MIRRORING = 1  # beside the seed, so that tosses and noise are drawn apart


def perturbed(u: Tensor, seeds: Sequence[int], noise: Tensor | None) -> Tensor:
    """`u` (batch, 3, nx, ny, nz) with white noise, drawn for each sample from its own seed.

    `noise` is its deviation, (3, nx or 1, ny or 1, nz or 1); None: there is none.
    """
    if noise is None:
        return u
    drawn = [torch.randn(u.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return u + (noise.cpu() * torch.stack(drawn)).to(u)


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
        drawn = int(np.random.SeedSequence([seed, MIRRORING]).generate_state(1)[0])
        toss = torch.randint(2, (3,), generator=torch.Generator().manual_seed(drawn)).tolist()
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


class Rollout(MeanOfSamples):
    """Mean relative error over the steps of a predicted window, from a first frame that may be perturbed.

    Parameters
    ----------
    predictor, domain : one step, and the points it acts on.
    loss, precision : of the recipe.
    noise : see `perturbed`.
    """

    def __init__(
        self,
        predictor: Predictor,
        domain: Domain,
        loss: LossTable,
        precision: Literal["float32", "bfloat16"],
        noise: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.predictor, self.domain, self.loss, self.noise = predictor, domain, loss, noise
        self.network, self.frame_error = predictor.network, error_of(*loss.error)
        self.half_precision = precision == "bfloat16"

    def forward(self, batch: Tensor, seeds: Sequence[int]) -> Tensor:
        """``(batch, steps + 1, 3, nx, ny, nz)`` to the loss."""
        return self.losses(batch, seeds).mean()

    def losses(self, batch: Tensor, seeds: Sequence[int]) -> Tensor:
        """The loss of each window, (batch,)."""
        u, errors = perturbed(batch[:, 0], seeds, self.noise), []
        for k in range(1, batch.shape[1]):
            u = self.step(u if self.loss.through else u.detach())
            errors.append(self.error(u, batch[:, k]))
        return torch.stack(errors).mean(dim=0)

    def step(self, u: Tensor) -> Tensor:
        """One prediction; the network may run in half precision, the velocity never does."""
        with torch.autocast(u.device.type, torch.bfloat16, enabled=self.half_precision):
            next_one: Tensor = self.predictor(u, self.domain)
            return next_one

    def error(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The error of the recipe, (batch,)."""
        return self.frame_error(prediction, target, self.domain)

    def measure(self, batch: Tensor, seeds: Sequence[int]) -> dict[str, Tensor]:
        """The loss; errors of one step and, for windows of several, of the last; what no change would score."""
        first, last = batch[:, 0], batch.shape[1] - 1
        u = self.step(first)
        errors = {
            LOSS: self.losses(batch, seeds),
            "fluctuation_error": fluctuation_error(u, batch[:, 1], self.domain),
            "relative_l2": relative_l2(u, batch[:, 1], self.domain),
            "frozen_fluctuation_error": fluctuation_error(first, batch[:, 1], self.domain),
        }
        for _ in range(1, last):
            u = self.step(u)
        if last > 1:
            errors[f"fluctuation_error_{last}"] = fluctuation_error(u, batch[:, last], self.domain)
        return errors
