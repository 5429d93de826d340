"""The two-grid cycle on cosines: kernels that make conjugate gradients fast on closed boxes of any size.

Mirrored ghosts make cosines eigenvectors of every reflection-symmetric kernel; the coarse grid couples the eight that
it cannot tell apart. So conjugate gradients on a source of white noise reduce to sums over modes, cheap enough to
differentiate with respect to the kernels.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from closures.pressure_nets.two_grid import Kernels

LOW = 8  # coarse wave numbers that are all taken; of the others
SAMPLE = 1500  # are drawn
FLOOR = 0.02  # below which an eigenvalue of the coarse correction is penalised, so the cycle stays definite
PENALTY = 100.0
RANGE = (0.05, 1.1)  # of the smoothed Laplacian on the coarse grid, for the polynomial to start from


@dataclass(frozen=True, eq=False)
class Modes:
    """Coarse modes of a closed cube, and with each the eight fine ones that restrict to it.

    Parameters
    ----------
    weight : how many modes each stands for, (m, 8); 0 for the constant and for cosines that do not exist.
    restriction : what the mean over 2^3 cells makes of a fine mode, (m, 8).
    matrix : eigenvalues of the seven-point matrix, (m, 8).
    fine, coarse : of each class of stencil points, the mean of its cosines, (m, 8, CLASSES) and (m, CLASSES).
    """

    weight: Tensor
    restriction: Tensor
    matrix: Tensor
    fine: Tensor
    coarse: Tensor


def modes(cells: int) -> Modes:
    """Modes of ``cells^3``: those of low wave number, and a sample of the rest."""
    numbers = torch.cartesian_prod(*[torch.arange(cells // 2)] * 3)
    numbers = numbers[(numbers.diff(dim=1) >= 0).all(1)]  # up to permutations
    low = numbers[:, 2] < LOW
    high = numbers[~low]
    drawn = torch.randperm(len(high), generator=torch.Generator().manual_seed(cells))[:SAMPLE]
    share = torch.cat([torch.ones(int(low.sum())), torch.full((len(drawn),), len(high) / max(len(drawn), 1))]).double()
    m = torch.cat([numbers[low], high[drawn]]).double()
    equal = (m.diff(dim=1) == 0).sum(1)
    permutations = torch.tensor([6.0, 3.0, 1.0], dtype=torch.float64)[equal] * share
    angle = m * (math.pi / cells)
    alias = torch.tensor(list(itertools.product((False, True), repeat=3)))  # m or cells - m, for each axis
    cosine = torch.where(alias, -1.0, 1.0) * torch.cos(angle)[:, None]
    half = torch.where(alias, -torch.sin(angle / 2)[:, None], torch.cos(angle / 2)[:, None])
    exists = ~(alias & (m == 0)[:, None]).any(-1)
    exists[m.sum(1) == 0] = False
    weight = permutations[:, None] * exists
    matrix = 2.0 * (3.0 - cosine.sum(-1))
    return Modes(weight, half.prod(-1) * exists, matrix, _classes(cosine), _classes(torch.cos(2 * angle)))


def _classes(c: Tensor) -> Tensor:
    x, y, z = c.unbind(-1)
    return torch.stack([torch.ones_like(x), (x + y + z) / 3, (x * y + y * z + z * x) / 3, x * y * z], -1)


def factors(kernels: Kernels, on: Modes) -> tuple[Tensor, Tensor, Tensor]:
    """Eigenvalues of the smoothing (both halves without a coarse grid), of what one half leaves, of the correction."""
    left = torch.ones_like(on.matrix)
    for smoother in kernels.smoothers:
        left = left * (1.0 - on.fine @ smoother * on.matrix)
    smoothed = (1.0 - left.square()) / on.matrix.clamp_min(1e-12)
    correction = on.coarse.new_zeros(len(on.coarse))
    for k, (operator, inverse) in enumerate(kernels.coarse):
        inner = on.coarse @ operator if k == 0 else 1.0 - on.coarse @ operator * correction
        correction = correction + on.coarse @ inverse * inner
    return smoothed, left, correction


def residuals(kernels: Kernels, on: Modes, iterations: int) -> list[Tensor]:
    """Relative residuals of conjugate gradients with the cycle, from white noise."""
    smoothed, left, correction = factors(kernels, on)
    r = (on.weight > 0).double()
    start, p, rz, history = (on.weight * r.square()).sum(), torch.zeros_like(r), torch.ones(()), []
    for _ in range(iterations):
        coarse = correction[:, None] * (on.restriction * left * r).sum(1, keepdim=True)
        z = smoothed * r + left * on.restriction * coarse
        old, rz = rz, (on.weight * r * z).sum()
        p = z + rz / old * p
        q = on.matrix * p
        r = r - rz / (on.weight * p * q).sum() * q
        history.append(((on.weight * r.square()).sum() / start).sqrt())
    return history


def polynomial(smoothers: int, corrections: int) -> Kernels:
    """Damped Jacobi on the fine grid, Chebyshev's polynomial of the smoothed Laplacian on the coarse one."""
    average = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64) / 8  # (1, 2, 1) / 4 in each direction
    identity = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    degree, (low, high) = 2 * corrections, RANGE
    angles = [math.pi * (2 * i + 1) / (2 * degree) for i in range(degree)]
    roots = [(high + low) / 2 + (high - low) / 2 * math.cos(angle) for angle in angles]
    operator = identity - average  # near A/4 of the coarse grid for smooth fields: no scaling is left
    sweeps = []
    for a, b in zip(roots[:corrections], reversed(roots), strict=False):
        sweeps.append((operator, (1 / a + 1 / b) * identity - operator / (a * b)))
    sweeps[0] = (identity, sweeps[0][1])
    return Kernels(tuple(w / 6 * identity for w in (0.7, 1.3, 1.0)[:smoothers]), tuple(sweeps))


def fitted(
    smoothers: int,
    corrections: int,
    cells: tuple[int, ...] = (64, 128),
    iterations: int = 12,
    steps: int = 300,
    rate: float = 0.01,
) -> Kernels:
    """Kernels with which `iterations` leave least of white noise on boxes of so many cells a side, on average.

    Parameters
    ----------
    smoothers, corrections : how many sweeps of each kind.
    steps, rate : of Adam, from `polynomial`.
    """
    first = polynomial(smoothers, corrections)
    with torch.enable_grad():
        free = [k.clone().requires_grad_() for k in (*first.smoothers, *itertools.chain(*first.coarse))]
        rest = free[smoothers:]
        kernels = Kernels(tuple(free[:smoothers]), tuple(zip(rest[::2], rest[1::2], strict=True)))
        optimiser, boxes = torch.optim.Adam(free, rate), [modes(n) for n in cells]
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(steps, 1))
        for _ in range(steps):
            optimiser.zero_grad()
            loss = torch.stack([residuals(kernels, box, iterations)[-1].log() for box in boxes]).mean()
            (loss + torch.stack([_indefinite(kernels, box) for box in boxes]).mean()).backward()
            torch.nn.utils.clip_grad_norm_(free, 1.0)
            optimiser.step()
            schedule.step()
    return Kernels(
        tuple(k.detach() for k in kernels.smoothers), tuple((a.detach(), b.detach()) for a, b in kernels.coarse)
    )


def _indefinite(kernels: Kernels, box: Modes) -> Tensor:
    """0 where the cycle is positive definite with some margin."""
    smoothed, _, correction = factors(kernels, box)
    below = (FLOOR - correction).relu(), (FLOOR - smoothed[box.weight > 0]).relu()
    return PENALTY * torch.stack([excess.square().mean() for excess in below]).sum()
