"""Relative L2 errors of fields ``(batch, channels, nx, ny, nz)`` on a domain, one number a sample."""

from __future__ import annotations

from torch import Tensor

from closures.algebraic.invariants import safe_sqrt
from closures.operators.domain import Domain


def norm(field: Tensor, domain: Domain) -> Tensor:
    """``sqrt(mean over the volume of f_i f_i)``, (batch,): the cells count by their volume."""
    square = (field * field).sum(dim=1) * domain.like(field).volumes
    return safe_sqrt(square.sum(dim=(1, 2, 3)))  # a perfect prediction has a zero gradient, not NaN


def relative_l2(prediction: Tensor, target: Tensor, domain: Domain) -> Tensor:
    """``|prediction - target| / |target|``, (batch,).

    In a channel the norm of the target is mostly that of the mean flow: see `fluctuation_error`.
    """
    return norm(prediction - target, domain) / norm(target, domain)


def fluctuation(field: Tensor, domain: Domain) -> Tensor:
    """`field` without its mean over the periodic directions, of each sample; itself where there are none."""
    if not any(domain.periodic):
        return field
    weighted, here = field, domain.like(field)
    for d, line in enumerate(here.lines):
        if line.periodic:
            shape = [-1 if k == 2 + d else 1 for k in range(5)]
            weighted = (weighted * line.weights.reshape(shape)).sum(dim=2 + d, keepdim=True)
    return field - weighted


def fluctuation_error(prediction: Tensor, target: Tensor, domain: Domain) -> Tensor:
    """`relative_l2` of the fluctuations alone, (batch,).

    1 is what a prediction without fluctuations scores, sqrt(2) what a perfect but uncorrelated flow scores.
    """
    return relative_l2(fluctuation(prediction, domain), fluctuation(target, domain), domain)
