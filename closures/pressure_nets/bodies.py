"""Random bodies in a closed cube: the geometries a network learns from."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import label
from torch import Tensor

from closures.pressure_nets.objective import laplacian
from closures.pressure_nets.ritz import RitzBasis, White, lanczos

NULL = 1e-8  # of the largest Ritz value: constants over parts of the fluid


def random_fluid(cells: int, bodies: int, random: np.random.Generator) -> Tensor:
    """1 in the fluid around so many balls and blocks, (cells, cells, cells)."""
    x = (np.arange(cells) + 0.5) / cells
    fluid = np.ones((cells,) * 3, dtype=bool)
    for _ in range(bodies):
        centre, size = random.uniform(0.1, 0.9, 3), random.uniform(0.06, 0.25)
        away = [x[:, None, None] - centre[0], x[None, :, None] - centre[1], x[None, None, :] - centre[2]]
        if random.random() < 0.5:
            fluid &= away[0] ** 2 + away[1] ** 2 + away[2] ** 2 > size**2
        else:
            sides = size * random.uniform(0.4, 1.0, 3)
            fluid &= (abs(away[0]) > sides[0]) | (abs(away[1]) > sides[1]) | (abs(away[2]) > sides[2])
    return torch.from_numpy(fluid).float()


def basis(fluid: Tensor, vectors: int, seed: int) -> RitzBasis:
    """Ritz vectors of the matrix around `fluid`, started from the matrix times noise (Kaneda et al. 2023)."""
    mask = fluid.double()[None, None]

    def apply(v: Tensor) -> Tensor:
        return laplacian(v.reshape(mask.shape) * mask, mask).reshape(-1)

    noise = torch.randn(fluid.numel(), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    values, found = lanczos(apply, apply(noise), vectors)
    return RitzBasis(found[:, values > NULL * values.max()].float().contiguous(), fluid)


def white(fluid: Tensor) -> White:
    """Sources of white noise around the bodies of `fluid`."""
    return White(fluid, torch.from_numpy(label(fluid.numpy())[0]).long())
