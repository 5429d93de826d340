"""The continuous ranked probability score: how far an ensemble is from what came, least for the right distribution.

Gneiting & Raftery 2007, J. Am. Stat. Assoc. 102, 359, equations 20 and 21; of few members, without a bias towards
little spread, Ferro 2014, Q. J. R. Meteorol. Soc. 140, 1917; almost so, Lang et al. 2024, arXiv 2412.15832.
"""

from __future__ import annotations

import torch
from torch import Tensor

from closures.losses.energy import share_of_planes, waves
from closures.losses.relative_l2 import AT_REST, fluctuation, periodic_mean
from closures.operators.domain import Domain


def kernel_crps(members: Tensor, target: Tensor, alpha: float = 1.0) -> Tensor:
    """``mean_i |x_i - y| - (1 - e) / (2 m (m - 1)) sum_ij |x_i - x_j|`` with ``e = (1 - alpha) / m``, as `target`.

    Parameters
    ----------
    members : x, (m, ...), two or more.
    target : y, (...).
    alpha : 1 is fair: the expectation does not depend on m. With less, members that are all alike but one are not as
        good as those that differ.
    """
    m = len(members)
    ordered = members.sort(dim=0).values
    rank = torch.arange(1 - m, m, 2, device=members.device, dtype=members.dtype)
    distances = torch.tensordot(rank, ordered, dims=1)  # the sum over i < j
    share = (1.0 - (1.0 - alpha) / m) / (m * (m - 1))
    found: Tensor = (members - target).abs().mean(dim=0) - share * distances
    return found


def plane_crps(members: Tensor, target: Tensor, domain: Domain, alpha: float = 1.0) -> Tensor:
    """Mean over planes and components of the score relative to the rms fluctuation there, (batch,).

    Planes are what the periodic directions span, and count the same, as in `plane_error`.

    Parameters
    ----------
    members : (m, batch, channels, nx, ny, nz).
    target : (batch, channels, nx, ny, nz).
    domain : the points.
    alpha : see `kernel_crps`.
    """
    scores = periodic_mean(kernel_crps(members, target, alpha), domain)
    sizes = periodic_mean(fluctuation(target, domain) ** 2, domain)
    floor = AT_REST * sizes.amax(dim=(1, 2, 3, 4), keepdim=True)
    return (scores / (sizes + floor).sqrt()).mean(dim=(1, 2, 3, 4))


def wave_crps(members: Tensor, target: Tensor, domain: Domain, alpha: float = 1.0) -> Tensor:
    """The same of the waves along each period, real and imaginary parts, relative to the rms of their wavenumber.

    Points one by one do not tell how a spread is shared among wavenumbers, waves do. Arguments as of `plane_crps`.
    """
    here, found = domain.like(target), []
    parts = fluctuation(members.flatten(0, 1), domain).unflatten(0, members.shape[:2]), fluctuation(target, domain)
    for d, line in enumerate(here.lines):
        if line.is_spectral:
            share = share_of_planes(here, d)
            own, true = (torch.view_as_real(waves(f, d, line.n)) for f in parts)
            across = [k for k in (2, 3, 4) if k != 2 + d]
            scores = (kernel_crps(own, true, alpha).sum(-1) * share).sum(dim=across)
            sizes = (true.square().sum(-1) * share).sum(dim=across)
            floor = AT_REST * sizes.amax(dim=(1, 2), keepdim=True)
            found.append(scores / (sizes + floor).sqrt())
    return torch.cat(found, dim=-1).mean(dim=(1, 2))
