"""Relative error in the first Sobolev norm: gradients count as well as values."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from closures.algebraic.invariants import safe_sqrt
from closures.losses.relative_l2 import norm
from closures.operators.domain import Domain


def derivative(field: Tensor, domain: Domain, direction: int) -> Tensor:
    """``df/dx`` along one direction of (batch, channels, nx, ny, nz), at the same points.

    Periodic and evenly spaced: spectral. Otherwise second-order differences on the true coordinates, one-sided at
    walls and across the seam of a period.
    """
    line, dim = domain.like(field).lines[direction], 2 + direction
    if line.n == 1:
        return torch.zeros_like(field)
    uniform = bool((line.weights - 1.0 / line.n).abs().max() * line.n < 1e-5)
    if not (line.periodic and uniform):
        return torch.gradient(field, spacing=(line.points,), dim=dim, edge_order=min(2, line.n - 1))[0]
    k = 2.0 * math.pi / line.length * torch.arange(line.n // 2 + 1, dtype=field.dtype, device=field.device)
    if line.n % 2 == 0:
        k[-1] = 0.0  # the derivative of the Nyquist mode vanishes at the points
    spectrum = torch.fft.rfft(field.movedim(dim, -1))
    return torch.fft.irfft(1j * k * spectrum, n=line.n).movedim(-1, dim)


def sobolev_error(prediction: Tensor, target: Tensor, domain: Domain, length: float) -> Tensor:
    """``sqrt(|e|^2 + length^2 |grad e|^2) / sqrt(|u|^2 + length^2 |grad u|^2)``, (batch,).

    ``length`` (a length) is the scale below which gradients outweigh values; 0 gives `relative_l2`.
    """

    def squared(field: Tensor) -> Tensor:
        gradients = [norm(derivative(field, domain, d), domain) ** 2 for d in range(3)] if length > 0 else []
        return norm(field, domain) ** 2 + length**2 * sum(gradients, torch.zeros_like(field[:, 0, 0, 0, 0]))

    return safe_sqrt(squared(prediction - target) / squared(target))
