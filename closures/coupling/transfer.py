"""The one place where a field leaves the solver's device and precision for a network's, and comes back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from solver.discretisation.calculus import Operators
from solver.errors import CaseError, FeatureUnavailable
from solver.parallel import ranks
from solver.parallel.late import wait_for

Wanted = Literal["solver", "auto", "cpu", "cuda"]
Precision = Literal["float32", "float64"]


class DeviceTransfer:
    """Copies between the solver and a network, timed as ``closure copy``; the network as ``closure network``.

    Gradients pass through it, so training sees what a run does.

    Parameters
    ----------
    operators : of the solver; they say where its fields live.
    wanted : device of the network: the solver's, or one of its own (``auto``: a GPU if there is one).
    precision : of the network; None: as its weights are.
    """

    def __init__(self, operators: Operators, wanted: Wanted, precision: Precision | None) -> None:
        self.timers = operators.timers
        self.home, self.home_dtype = operators.device, operators.dtype
        self.device = operators.device if wanted == "solver" else _choose(wanted)
        self.dtype: torch.dtype | None = getattr(torch, precision) if precision else None

    def settle(self, network: nn.Module) -> nn.Module:
        """Bring the weights over, once.

        Raises
        ------
        FeatureUnavailable : they do not fit into the memory of the device.
        """
        try:
            return network.to(self.device) if self.dtype is None else network.to(self.device, self.dtype)
        except torch.OutOfMemoryError:
            raise FeatureUnavailable(
                f"[closure] device: the network does not fit into the memory of {self.device}: use device = 'cpu'"
            ) from None

    def dtype_of(self, network: nn.Module | None) -> torch.dtype:
        """In which a network is evaluated; `None` stands for one that another rank has."""
        weight = None if network is None else next(network.parameters(), None)
        return self.dtype or (self.home_dtype if weight is None else weight.dtype)

    def inward(self, f: Tensor, network: nn.Module | None = None) -> Tensor:
        """A field of the solver for the network."""
        with self.timers("closure copy"):
            return f.to(self.device, self.dtype_of(network))

    def outward(self, f: Tensor) -> Tensor:
        """An answer of the network for the solver."""
        with self.timers("closure copy"):
            return f.to(self.home, self.home_dtype)

    @contextmanager
    def network(self) -> Iterator[None]:
        """Around the evaluation; waits for a GPU of its own, so that its time is not charged to the copy back."""
        with self.timers("closure network"):
            yield
            if self.device != self.home:
                wait_for(self.device)


def _choose(wanted: str) -> torch.device:
    try:
        return ranks.choose_device(wanted)
    except CaseError:
        raise CaseError(
            f"[closure] device = '{wanted}', but torch sees no GPU: use device = 'auto', 'cpu' or 'solver'"
        ) from None
