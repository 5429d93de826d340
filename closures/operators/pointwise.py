"""Pieces that act at each point alone: channels-first linear maps, and coordinates of walled directions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from closures.operators.domain import Domain
from solver.errors import CaseError


def channelwise(channels_in: int, channels_out: int, bias: bool = True) -> nn.Conv3d:
    """A linear map of the channels of (batch, channels, nx, ny, nz)."""
    return nn.Conv3d(channels_in, channels_out, 1, bias=bias)


def perceptron(channels_in: int, hidden: int, channels_out: int) -> nn.Sequential:
    """Two linear maps with a GELU between them."""
    return nn.Sequential(channelwise(channels_in, hidden), nn.GELU(), channelwise(hidden, channels_out))


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
