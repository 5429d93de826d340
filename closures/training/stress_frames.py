"""Frames of filtered velocity and subgrid stress, of several grids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from closures.data.windows import TrajectoryFiles
from closures.operators.stress import PAIRS


class StressFrames(Dataset[Tensor]):
    """Samples of `frames` frames of one file each, as far apart as its trajectory allows: (frames, 9, nx, ny, nz).

    Parameters
    ----------
    parts : files, and the trajectories of each.
    frames : of a sample.
    """

    def __init__(self, parts: Sequence[tuple[TrajectoryFiles, Sequence[int]]], frames: int) -> None:
        self.samples = [
            (file, trajectory, slice(first, first + apart * (frames - 1) + 1, apart))
            for file, trajectories in parts
            for trajectory in trajectories
            for apart in [file.shape[1] // frames]
            for first in range(apart)
        ]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, number: int) -> Tensor:
        """Velocity and the six components of the stress at cell centres."""
        file, trajectory, frames = self.samples[number]
        u, tau = file.read(trajectory, frames), file.stress(trajectory, frames)
        six = np.stack([tau[..., i, j] for i, j in PAIRS], axis=-1)
        return torch.from_numpy(np.concatenate([u, six], axis=-1)).movedim(-1, 1)
