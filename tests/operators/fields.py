"""Small domains and smooth fields for the operator tests; not a test itself."""

from __future__ import annotations

import numpy as np
import torch

from closures.operators import Domain
from solver.grid.axis import FiniteVolumeAxis, FourierAxis, NoSlip, stretched_faces
from solver.grid.grid import Grid

STRETCHING = 1.6
SMALL = {
    "fno": {"width": 4, "modes": (2, 3, 2), "layers": 2, "hidden": 5},
    "ifno": {"width": 4, "modes": (2, 3, 2), "iterations": 3, "hidden": 5},
    "differential": {"width": 4, "layers": 2, "lengths": (0.3, 0.2, 0.25), "polynomials": 3},
    "mgno": {"width": 4, "layers": 2, "levels": 2},
    "unet": {"width": 4, "levels": 2},
    "ifactformer_m": {"width": 6, "heads": 2, "multiplier": 2, "iterations": 2, "modes": 2},
    "ifactformer_o": {"width": 6, "heads": 2, "multiplier": 2, "iterations": 2, "modes": 2},
}


def channel_domain(nx, ny, nz, dtype=torch.float64):
    """Periodic in x and z, stretched walls in y; nx and nz are numbers of points."""
    wall = NoSlip()
    faces = stretched_faces(ny, 0.0, 2.0, STRETCHING)
    x, z = (FourierAxis(n, length, "2/3") for n, length in ((nx, 2 * np.pi), (nz, np.pi)))
    domain = Domain.of(Grid(x, FiniteVolumeAxis(faces, wall, wall), z))
    return domain.like(torch.empty(0, dtype=dtype))


def smooth(domain, seed=0):
    """Three analytic functions of (x, y, z), periodic in x and z, of one formula on every grid: (1, 3, nx, ny, nz)."""
    x, y, z = torch.meshgrid(*(line.points for line in domain.lines), indexing="ij")
    a, b = np.random.default_rng(seed).uniform(0, 2 * np.pi, 2)
    u = 1 - (y - 1) ** 4 + 0.3 * torch.cos(x + a) * torch.sin(np.pi * y / 2)
    v = 0.5 * torch.sin(x) * torch.cos(2 * z + b) * torch.sin(np.pi * y / 2) ** 2
    w = 0.4 * torch.exp(0.3 * torch.sin(2 * z)) * y * (2 - y)
    return torch.stack([u, v, w])[None]


def randomise(network, seed, scale=None):
    """Every weight normal with deviation `scale` or 1 / sqrt(fan in), so that nothing is zero by initialisation."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in network.parameters():
            size = scale or (weight[0].numel() if weight.ndim > 1 else 10) ** -0.5
            weight.copy_(size * torch.randn(weight.shape, generator=generator, dtype=torch.float64))
    return network
