"""What makes a direction good, whatever its length: the residual that a line search along it leaves."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

AXES = (-3, -2, -1)


def laplacian(q: Tensor, fluid: Tensor) -> Tensor:
    """The seven-point matrix of equal cells over its mesh size, closed at walls and solids; (batch, 1, nx, ny, nz)."""
    total = torch.zeros_like(q)
    for dim in AXES:
        n = q.shape[dim] - 1
        open_face = fluid.narrow(dim, 0, n) * fluid.narrow(dim, 1, n)
        flux = open_face * (q.narrow(dim, 1, n) - q.narrow(dim, 0, n))
        total = total - _padded(flux, dim, 0) + _padded(flux, dim, 1)
    return total


def _padded(flux: Tensor, dim: int, before: int) -> Tensor:
    shape = list(flux.shape)
    shape[dim] = 1
    zeros = flux.new_zeros(shape)
    return torch.cat([zeros, flux] if before else [flux, zeros], dim)


class LineSearch(nn.Module):
    """``|b - alpha A q|^2`` for ``q = N(b)`` and the best ``alpha = q.b / q.Aq`` (Kaneda et al. 2023, eq. 8).

    Scale-free, and it needs one product with the matrix and no solution.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Tensor, seeds: Sequence[int]) -> Tensor:
        """The mean over a batch of `RitzResiduals`, (batch, group + 1, nx, ny, nz)."""
        return torch.stack([self.left(sample).mean() for sample in batch]).mean()

    def left(self, sample: Tensor) -> Tensor:
        """What is left of each squared residual of a group, (group,)."""
        b, fluid = sample[:-1, None], sample[None, -1:]
        q = self.network(b, fluid) * fluid
        product = laplacian(q, fluid)
        energy = (q * product).sum((1, *AXES), keepdim=True)
        alpha = (q * b).sum((1, *AXES), keepdim=True) / energy.clamp_min(torch.finfo(q.dtype).tiny)
        return (b - alpha * product).square().sum((1, *AXES))

    def measure(self, batch: Tensor) -> dict[str, Tensor]:
        """The root of it: how much one direction leaves of the residual."""
        return {"residual_left": torch.stack([self.left(sample).sqrt().mean() for sample in batch])}
