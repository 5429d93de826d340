"""A number of a flow, or those of a batch of flows."""

from __future__ import annotations

from typing import Any

Number = Any  # a float; of a batch of flows a float64 tensor (members, 1, 1, 1) on the device
