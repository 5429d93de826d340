"""Fluctuations that are rescaled, plane by plane, so that no plane's energy changes faster than was ever seen.

Conservation fixers after each step, inside the loss as well as in a run, are what weather models of networks use
(Schreck et al. 2025, npj Clim. Atmos. Sci., arXiv 2411.07814); here it is not a total that is conserved but a rate that
is bounded.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from closures.operators.domain import Domain, Line

Limits = Sequence[tuple[float, float]]
ALONG = (0, 2)  # what a plane across y spans, whole on every rank


def fixed(before: Tensor, after: Tensor, domain: Domain, limits: Limits) -> Tensor:
    """`after` with the fluctuations of every plane rescaled to where its energy changes by a factor within limits.

    ``after + (r - 1) (after - mean)``, r = sqrt(E / E_after), with E that of `after` moved into
    ``E_before / g .. E_before g``. Where it is inside, r is one and nothing changes. Means over a plane are left alone.
    Differentiable; the same on any number of ranks, which have whole planes.

    Parameters
    ----------
    before, after : (batch, 3, nx, ny, nz), velocity.
    domain : its points.
    limits : heights, as shares of the length of y, and g >= 1 there; in between it is interpolated.

    Examples
    --------
    >>> line = Line(torch.arange(4.0) / 4, torch.full((4,), 0.25), 1.0, True)
    >>> wave = torch.cos(2 * torch.pi * torch.arange(4.0) / 4).reshape(1, 1, 4, 1, 1).expand(1, 3, 4, 4, 4)
    >>> fixed(wave, 3.0 * wave, Domain(line, line, line), [(0.5, 4.0)])[0, 0, 0, 0, 0]
    tensor(2.)
    """
    mean, old, new = _mean(after, domain), plane_energies(before, domain), plane_energies(after, domain)
    g = _at(domain.y, limits, new)
    wanted = torch.minimum(torch.maximum(new, old / g), old * g)
    least = torch.finfo(new.dtype).tiny
    ratio = torch.where(wanted == new, torch.ones_like(new), (wanted.clamp_min(least) / new.clamp_min(least)).sqrt())
    return after + (ratio - 1.0)[:, None, None, :, None].to(after) * (after - mean)


def plane_energies(velocity: Tensor, domain: Domain) -> Tensor:
    """Half the mean square of the fluctuations in each plane across y, all components, (batch, ny), not below single.

    A fluctuation is what is left without the mean over the periods in the plane.
    """
    f = velocity if velocity.dtype == torch.float64 else velocity.float()
    part, here = f - _mean(f, domain), domain.like(f)
    share = here.x.weights[:, None, None] * here.z.weights
    return 0.5 * (part.square().sum(1) * share).sum((1, 3))


def growth(first: Tensor, later: Tensor, domain: Domain) -> Tensor:
    """The greatest factor by which planes gained or lost energy between frames (frames, 3, nx, ny, nz), (ny,).

    Both walls of a grid that is its own mirror image teach the same: a plane and its image have one factor.
    """
    old, new, unit = plane_energies(first, domain), plane_energies(later, domain), domain.y.unit
    least = torch.finfo(old.dtype).tiny
    change = (new.clamp_min(least) / old.clamp_min(least)).log().abs().amax(0)
    if not domain.y.periodic and torch.allclose(unit + unit.flip(0), torch.ones_like(unit)):
        change = torch.maximum(change, change.flip(0))
    return change.exp()


def _mean(f: Tensor, domain: Domain) -> Tensor:
    """Over the periods that a plane spans; zero where it has none."""
    here, periods = domain.like(f), [d for d in ALONG if domain.lines[d].periodic]
    if not periods:
        return torch.zeros_like(f)
    for d in periods:
        shape = [-1 if k == 2 + d else 1 for k in range(5)]
        f = (f * here.lines[d].weights.reshape(shape)).sum(2 + d, keepdim=True)
    return f


def _at(line: Line, limits: Limits, like: Tensor) -> Tensor:
    """`limits` at the points of a line, (n,)."""
    known: dict[Limits, Tensor] = line.__dict__.setdefault("_limits", {})
    key = tuple(limits)
    if key not in known:
        heights, factors = np.array(key).T
        known[key] = torch.from_numpy(np.interp(line.unit.double().cpu().numpy(), heights, factors))
    return line.sent(known[key], like)
