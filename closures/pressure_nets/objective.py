"""What makes directions good, whatever their length: the residual that line searches along them leave."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from closures.losses.objective import LOSS, MeanOfSamples

REMEMBERED = 2  # directions: a network is neither linear nor symmetric, so only local conjugacy can be kept
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


class LineSearch(MeanOfSamples):
    """``|b - alpha A q|^2`` for ``q = N(b)`` and the best ``alpha = q.b / q.Aq`` (Kaneda et al. 2023, eq. 8).

    Scale-free, and it needs one product with the matrix and no solution. With more than one of `directions`, each is
    the network's answer to what the last ones left, made conjugate to them as in `ConjugateDirections`, and the loss is
    the logarithm of what is left in the end: networks then learn from residuals that they leave themselves.
    """

    def __init__(self, network: nn.Module, directions: int = 1) -> None:
        super().__init__()
        self.network, self.directions = network, directions

    def forward(self, batch: Tensor, seeds: Sequence[int]) -> Tensor:
        """The mean over a batch of samples, (batch, group + 1, nx, ny, nz): unit residuals, and 1 in fluid cells."""
        return torch.stack([self.loss(self.left(sample)) for sample in batch]).mean()

    def loss(self, left: Tensor) -> Tensor:
        """Of what is `left` of a group, a scalar."""
        return left.mean() if self.directions == 1 else left.log().mean() / self.directions

    def left(self, sample: Tensor) -> Tensor:
        """What is left of each squared residual of a group, (group,)."""
        r, fluid = sample[:-1, None], sample[None, -1:]
        memory: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=REMEMBERED)
        for _ in range(self.directions):
            norm = _dot(r, r).sqrt()
            p = self.network(r / norm, fluid) * fluid
            for old, a_old, energy in reversed(memory):
                p = p - _dot(p, a_old) / energy * old
            product = laplacian(p, fluid)
            energy = _dot(p, product).clamp_min(torch.finfo(p.dtype).tiny)
            r = r - _dot(p, r) / energy * product
            memory.append((p, product, energy))
        return r.square().sum((1, *AXES))

    def measure(self, batch: Tensor, seeds: Sequence[int]) -> dict[str, Tensor]:
        """The loss, and how much of the residual one direction leaves; of several, the geometric mean."""
        left = [self.left(sample) for sample in batch]
        shares = [one.pow(0.5 / self.directions).mean() for one in left]
        return {LOSS: torch.stack([self.loss(one) for one in left]), "residual_left": torch.stack(shares)}


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((1, *AXES), keepdim=True)
