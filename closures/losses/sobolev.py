"""Relative error in the first Sobolev norm: gradients count as well as values."""

from __future__ import annotations

import torch
from torch import Tensor

from closures.algebraic.invariants import safe_sqrt
from closures.losses.relative_l2 import norm
from closures.operators.domain import Domain
from closures.operators.spectral import along


def sobolev_error(prediction: Tensor, target: Tensor, domain: Domain, length: float = 0.0) -> Tensor:
    """``sqrt(|e|^2 + length^2 |grad e|^2) / sqrt(|u|^2 + length^2 |grad u|^2)``, (batch,).

    ``length`` (a length) is the scale below which gradients outweigh values; 0 gives `relative_l2`.
    """

    def squared(field: Tensor) -> Tensor:
        derivatives = (along(field, line.derivative.to(field), d) for d, line in enumerate(domain.lines))
        gradients = [norm(f, domain) ** 2 for f in derivatives] if length > 0 else []
        return norm(field, domain) ** 2 + length**2 * sum(gradients, torch.zeros_like(field[:, 0, 0, 0, 0]))

    return safe_sqrt(squared(prediction - target) / squared(target))
