"""Where the batches of a training come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from closures.training.processes import ProcessGroup
from closures.training.schedule import batches
from closures.training.state import Progress
from closures.training.tables import LoopTable


@runtime_checkable
class Feed(Protocol):
    """Batches, epoch by epoch.

    Attributes
    ----------
    length : samples of an epoch.
    """

    length: int

    def batches(self, progress: Progress) -> Iterator[Any]:
        """What is left of the present epoch; `progress` moves on between two batches."""
        ...

    def facts(self) -> dict[str, float]:
        """What there is to say of it, by name."""
        ...

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What it needs to go on, beside the progress: plain values, and tensors by name."""
        ...

    def restore(self, values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Go on from there."""
        ...


class Shuffled:
    """A data set in an order that is a function of seed and epoch: there is nothing to remember.

    Parameters
    ----------
    data : of samples.
    group : each of its processes takes its share of every batch.
    workers : processes that load data.
    """

    def __init__(self, data: Dataset[Any], loop: LoopTable, group: ProcessGroup, workers: int = 0) -> None:
        self.data, self.loop, self.group, self.workers = data, loop, group, workers
        self.length = len(data)  # type: ignore[arg-type]  # those of trainings have a length

    def batches(self, progress: Progress) -> Iterator[Any]:
        """See `Feed`."""
        loop, group = self.loop, self.group
        order = batches(self.length, loop.batch, loop.seed, progress.epoch, group.rank, group.size)
        yield from loaded(self.data, order[progress.batch :], loop.seed, self.workers)

    def facts(self) -> dict[str, float]:
        """See `Feed`."""
        return {}

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """See `Feed`."""
        return {}, {}

    def restore(self, values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """See `Feed`."""


def loaded(data: Dataset[Any], order: list[list[int]], seed: int, workers: int) -> Iterator[Any]:
    """The batches of samples with these numbers."""
    generator = torch.Generator().manual_seed(seed)
    yield from DataLoader(data, batch_sampler=order, num_workers=workers, generator=generator)
