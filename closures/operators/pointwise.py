"""Pieces that act at each point alone: channels-first linear maps, and coordinates of walled directions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from closures.operators.domain import Domain
from solver.errors import CaseError


class Channelwise(nn.Conv3d):
    """A linear map of the channels of (batch, channels, nx, ny, nz).

    A convolution with a kernel of one point, whose weights and their names it has; computed as the matrix product that
    it is: torch's convolution copies the field before it multiplies.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, 1)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  torch's name for it
        """``W v + b`` at every point."""
        assert self.bias is not None
        weight = self.weight.flatten(1).expand(len(input), -1, -1)
        bias = self.bias[:, None]
        found: Tensor = torch.baddbmm(bias, weight, input.flatten(2)).unflatten(2, input.shape[2:])
        return found


class PointwiseLinear(nn.Linear):
    """A linear map of the channels of (batch, channels, ...), whose bias a kernel adds where it reads the product."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  torch's name for it
        """``W v + b`` at every point."""
        product: Tensor = torch.matmul(self.weight, input.flatten(2)).unflatten(2, input.shape[2:])
        return product if self.bias is None else product + self.bias.reshape(-1, *[1] * (input.ndim - 2))


def perceptron(channels_in: int, hidden: int, channels_out: int) -> nn.Sequential:
    """Two linear maps with a GELU between them."""
    return nn.Sequential(Channelwise(channels_in, hidden), nn.GELU(), Channelwise(hidden, channels_out))


def operand(f: Tensor) -> Tensor:
    """`f` in the type in which matrix products run here: converted once, not by every product that reads it."""
    kind = f.device.type
    return f.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) and f.dtype == torch.float32 else f


def check_kind(periodic: tuple[bool, bool, bool], domain: Domain) -> None:
    """Raises CaseError if `domain` is not periodic where the weights say it is."""
    if domain.periodic != periodic:
        raise CaseError(f"[operator] made for {_kinds(periodic)}, asked to act on {_kinds(domain.periodic)}")


def _kinds(periodic: tuple[bool, bool, bool]) -> str:
    return ", ".join(f"{'periodic' if p else 'walled'} {name}" for name, p in zip("xyz", periodic, strict=True))


def with_wall_coordinates(field: Tensor, domain: Domain) -> Tensor:
    """`field` and one channel, -1 .. 1, for each direction that is not periodic.

    Periodic directions get none: nothing distinguishes their points, and an operator that cannot tell them apart
    commutes with shifts.
    """
    channels = [field]
    for d, line in enumerate(domain.like(field).lines):
        if not line.periodic:
            shape = [-1 if k == 2 + d else 1 for k in range(5)]
            channels.append((2.0 * line.unit - 1.0).reshape(shape).expand(field.shape[0], 1, *field.shape[2:]))
    return torch.cat(channels, dim=1)
