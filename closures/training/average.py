"""An exponential moving average of the weights, which is judged and kept in their place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn


class Average:
    """``a <- d a + (1 - d) w`` after every step, d growing from 0.1 to `decay`: first weights are soon forgotten.

    d is ``min(decay, (1 + n) / (10 + n))`` at step n (Izmailov et al. 2018, arXiv 1803.05407, average evenly).

    Parameters
    ----------
    network : whose weights.
    decay : 0: the average is the weights themselves.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network, self.decay = network, decay
        self.values = self._present() if decay else {}

    def follow(self, step: int) -> None:
        """After the step `step` of the optimiser."""
        keep = min(self.decay, (1 + step) / (10 + step))
        present = self.network.state_dict()
        for name, mean in self.values.items():
            if mean.is_floating_point():
                mean.lerp_(present[name], 1.0 - keep)
            else:
                mean.copy_(present[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The network has the average for its weights."""
        if not self.values:
            yield
            return
        own = self._present()
        self.network.load_state_dict(self.values)
        try:
            yield
        finally:
            self.network.load_state_dict(own)

    def copy(self) -> dict[str, Tensor]:
        """Of the average."""
        return {name: mean.clone() for name, mean in (self.values or self._present()).items()}

    def restore(self, values: Mapping[str, Tensor]) -> None:
        """Go on from what a state holds."""
        for name, mean in self.values.items():
            mean.copy_(values[name])

    def _present(self) -> dict[str, Tensor]:
        return {name: w.detach().clone() for name, w in self.network.state_dict().items()}
