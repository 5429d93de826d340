"""Reading numbers of a device without emptying its queue, and waiting until it is empty."""

from __future__ import annotations

import torch
from torch import Tensor


class Reading:
    """A few numbers on their way to the host: they are asked for now, and waited for when they are read.

    Whatever is queued in between keeps the device busy. On a CPU they are simply there.
    """

    def __init__(self, values: Tensor) -> None:
        values, device = values.detach(), values.device
        self.passed = None
        if device.type == "cpu":
            self.values = values
            return
        self.values = torch.empty(values.shape, dtype=values.dtype, pin_memory=device.type == "cuda")
        self.values.copy_(values, non_blocking=True)
        self.passed = torch.get_device_module(device).Event()
        self.passed.record()

    def __call__(self) -> list[float]:
        """The numbers."""
        if self.passed is not None:
            self.passed.synchronize()
        numbers: list[float] = self.values.tolist()
        return numbers


def wait_for(device: torch.device) -> None:
    """Return once the device has done all that it was asked for; a CPU has."""
    if device.type != "cpu":
        torch.get_device_module(device).synchronize(device)
