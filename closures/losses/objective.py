"""What a training minimises: the mean of what the samples of a batch cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

LOSS = "validation_loss"  # what chooses the best weights


class Objective(Protocol):
    """A module whose call is the loss; `network` holds the weights that are trained."""

    network: nn.Module

    def __call__(self, batch: Tensor, seeds: Sequence[int]) -> Tensor:
        """The loss, a scalar; `seeds`, one a sample, are its only source of randomness."""
        ...

    def measure(self, batch: Tensor, seeds: Sequence[int]) -> dict[str, Tensor]:
        """What `conclude` needs the mean over the validation set of, (batch, ...), by name."""
        ...

    def conclude(self, means: dict[str, Tensor]) -> dict[str, float]:
        """Errors by name, from those means; the first, the loss that is trained, selects the best weights."""
        ...


class MeanOfSamples(nn.Module):
    """An objective that is the mean over the samples of a number each, as the errors beside it are."""

    def conclude(self, means: dict[str, Tensor]) -> dict[str, float]:
        """See `Objective`."""
        return {name: float(mean) for name, mean in means.items()}
