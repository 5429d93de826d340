"""Relative L2 errors of fields ``(batch, channels, nx, ny, nz)`` on a domain, one number a sample."""

from __future__ import annotations

from torch import Tensor

from closures.algebraic.invariants import safe_sqrt
from closures.operators.domain import Domain

AT_REST = 1e-6  # share of the largest square below which one counts as zero: what is left there is round-off


def norm(field: Tensor, domain: Domain) -> Tensor:
    """``sqrt(mean over the volume of f_i f_i)``, (batch,): the cells count by their volume."""
    square = (field * field).sum(dim=1) * domain.like(field).volumes
    return safe_sqrt(square.sum(dim=(1, 2, 3)))  # a perfect prediction has a zero gradient, not NaN


def relative_l2(prediction: Tensor, target: Tensor, domain: Domain) -> Tensor:
    """``|prediction - target| / |target|``, (batch,).

    In a channel the norm of the target is mostly that of the mean flow: see `fluctuation_error`.
    """
    return norm(prediction - target, domain) / norm(target, domain)


def periodic_mean(field: Tensor, domain: Domain) -> Tensor:
    """Of each sample over the periodic directions, which keep a length of one."""
    mean, here = field, domain.like(field)
    for d, line in enumerate(here.lines):
        if line.periodic:
            shape = [-1 if k == 2 + d else 1 for k in range(5)]
            mean = (mean * line.weights.reshape(shape)).sum(dim=2 + d, keepdim=True)
    return mean


def fluctuation(field: Tensor, domain: Domain) -> Tensor:
    """`field` without its mean over the periodic directions, of each sample; itself where there are none."""
    return field - periodic_mean(field, domain) if any(domain.periodic) else field


def fluctuation_error(prediction: Tensor, target: Tensor, domain: Domain) -> Tensor:
    """`relative_l2` of the fluctuations alone, (batch,).

    1 is what a prediction without fluctuations scores, sqrt(2) what a perfect but uncorrelated flow scores.
    """
    return relative_l2(fluctuation(prediction, domain), fluctuation(target, domain), domain)


def plane_error(prediction: Tensor, target: Tensor, domain: Domain) -> Tensor:
    """Root mean square over planes and components of errors relative to the fluctuation there, (batch,).

    Planes are what the periodic directions span, and count the same: a mean over the volume hardly sees the thin cells
    at a wall, with fluctuations a tenth of those beside them.
    """
    errors, sizes = (periodic_mean(f**2, domain) for f in (prediction - target, fluctuation(target, domain)))
    floor = AT_REST * sizes.amax(dim=(1, 2, 3, 4), keepdim=True)
    return safe_sqrt((errors / (sizes + floor)).mean(dim=(1, 2, 3, 4)))
