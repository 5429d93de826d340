"""Windows that grow while a training goes on: first one step, then several, each stage at a rate of its own."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from solver.case.table import Table

CUT = 2  # beside the seed, so that places of windows, tosses and noise are drawn apart


class StageTable(Table):
    """``[[loss.stages]]``: from an epoch on windows of so many steps.

    Parameters
    ----------
    epoch : the first of the stage.
    steps : that are predicted in a row.
    divide : the rate of the schedule is divided by this.
    """

    epoch: int = Field(ge=0)
    steps: int = Field(ge=1, le=1000)
    divide: float = Field(default=1.0, gt=0)


def in_order(stages: tuple[StageTable, ...]) -> tuple[StageTable, ...]:
    """The stages as they are; raises ValueError if they do not follow one another from the first epoch on."""
    if stages and stages[0].epoch:
        raise ValueError(f"epoch = {stages[0].epoch} of the first: the first stage begins at epoch 0")
    for one, other in pairwise(stages):
        if other.epoch <= one.epoch:
            raise ValueError(f"epoch = {other.epoch} after {one.epoch}: give later stages later epochs")
    return stages


class Curriculum:
    """What of a sample an epoch learns from, and how fast; a function of epoch and seeds, so that any step can resume.

    Samples hold as many frames as the longest windows need. A shorter window begins anywhere in one.

    Parameters
    ----------
    stages : see `StageTable`; none: samples are taken as they are.
    """

    def __init__(self, stages: Sequence[StageTable] = ()) -> None:
        self.stages = stages

    def at(self, epoch: int) -> StageTable | None:
        """The stage of an epoch."""
        return next((stage for stage in reversed(self.stages) if stage.epoch <= epoch), None)

    def rate(self, rate: float, epoch: int) -> float:
        """What a learning rate of the schedule is in that epoch."""
        stage = self.at(epoch)
        return rate / stage.divide if stage is not None else rate

    def windows(self, batch: Any, seeds: Sequence[int], epoch: int) -> Any:
        """Of samples (batch, frames, ...) the windows of an epoch, (batch, steps + 1, ...)."""
        stage = self.at(epoch)
        if stage is None:
            return batch
        return torch.stack([_window(sample, seed, stage.steps) for sample, seed in zip(batch, seeds, strict=True)])

    def facts(self, epoch: int) -> dict[str, float]:
        """For the history: the length of the windows."""
        stage = self.at(epoch)
        return {"steps": stage.steps} if stage is not None else {}


def _window(sample: Tensor, seed: int, steps: int) -> Tensor:
    spare = len(sample) - 1 - steps
    first = int(np.random.default_rng([seed, CUT]).integers(spare + 1)) if spare else 0
    return sample[first : first + steps + 1]
