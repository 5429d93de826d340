"""A number of a flow, or those of a batch of flows."""

from __future__ import annotations

from torch import Tensor

Number = float | Tensor  # the tensor is of a batch: float64, (members, 1, 1, 1), on the device
