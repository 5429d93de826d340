"""What files of trajectories hold, as coefficients and as a reference table; not a test itself."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from closures.data.profiles import filtered_channel
from solver.analysis.channel import table_of
from solver.discretisation.calculus import Operators
from solver.discretisation.fft import TorchEngine
from solver.discretisation.staggered import y_slowest
from solver.grid.axis import FourierAxis


def from_points(operators: Operators, f: Tensor) -> Tensor:
    """Coefficients of a field given as by `on_points`."""
    x, z = cast(FourierAxis, operators.grid.x), cast(FourierAxis, operators.grid.z)
    box = isinstance(operators.grid.y, FourierAxis)
    kind = torch.promote_types(f.dtype, torch.complex64) if box else f.dtype
    modes = TorchEngine.plane_modes(f.transpose(0, 1), (x.highest_mode, z.highest_mode), f.new_empty(0, dtype=kind))
    if isinstance(operators.grid.y, FourierAxis):
        modes = TorchEngine.column_modes(modes, operators.grid.y.highest_mode)
    return y_slowest(modes.transpose(1, 2))


def reference_profiles(path: Path):
    """The profiles of a filtered channel as columns of a reference table."""
    channel, means = filtered_channel(path)
    return table_of(channel, means.mean(axis=(0, 1))).table
