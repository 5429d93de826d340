"""Training residuals without a single solution: random combinations of Ritz vectors of the pressure matrix.

Lanczos with full reorthogonalisation; the lower part of the spectrum is amplified, because that is what is left of a
residual after the first directions (Kaneda et al. 2023, arXiv 2205.10763; Lan et al. 2024, arXiv 2310.00177).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

SMOOTH = 9.0  # amplification of the lower part
BREAKDOWN = 1e-10  # of a Lanczos vector, relative to the matrix


def lanczos(apply: Callable[[Tensor], Tensor], start: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Ritz values, ascending, and unit Ritz vectors (n, steps or fewer) of a symmetric matrix on flat vectors.

    Raises
    ------
    ValueError : the start is zero.
    """
    norm = torch.linalg.vector_norm(start)
    if not norm > 0:
        raise ValueError("Lanczos cannot start from zero")
    basis = start.new_empty((steps, len(start)))
    diagonal, beside = start.new_zeros(steps), start.new_zeros(steps)
    w, done = start / norm, steps
    for k in range(steps):
        basis[k] = w
        w = apply(w)
        diagonal[k] = torch.dot(w, basis[k])
        for _ in range(2):  # twice is enough (Parlett 1980)
            w = w - basis[: k + 1].T @ (basis[: k + 1] @ w)
        beside[k] = torch.linalg.vector_norm(w)
        if beside[k] <= BREAKDOWN * diagonal[: k + 1].abs().max():
            done = k + 1
            break
        w = w / beside[k]
    off = beside[: done - 1]
    values, vectors = torch.linalg.eigh(torch.diag(diagonal[:done]) + torch.diag(off, 1) + torch.diag(off, -1))
    return values, basis[:done].T @ vectors


@dataclass(frozen=True, eq=False)
class RitzBasis:
    """Ritz vectors of one geometry.

    Parameters
    ----------
    vectors : (n, m), single precision, ascending; those of the null space are left out.
    fluid : 1 in fluid cells, (nx, ny, nz).
    """

    vectors: Tensor
    fluid: Tensor

    def residuals(self, count: int, generator: torch.Generator, amplified: float) -> Tensor:
        """Unit residuals (count, nx, ny, nz); the lowest share `amplified` of the spectrum is enlarged by `SMOOTH`."""
        m = self.vectors.shape[1]
        c = torch.randn(m, count, generator=generator)
        c[: round(amplified * m)] *= SMOOTH
        b = self.vectors @ c
        unit: Tensor = (b / torch.linalg.vector_norm(b, dim=0)).T.reshape(count, *self.fluid.shape)
        return unit


@dataclass(frozen=True, eq=False)
class White:
    """White noise in the fluid of one geometry, without the part that no pressure could balance.

    Parameters
    ----------
    fluid : 1 in fluid cells, (nx, ny, nz).
    part : the number of the connected part a cell belongs to, 0 in solids, (nx, ny, nz).
    """

    fluid: Tensor
    part: Tensor

    def residuals(self, count: int, generator: torch.Generator, amplified: float) -> Tensor:
        """Unit residuals (count, nx, ny, nz), of zero sum over each part; nothing is amplified."""
        b = torch.randn(count, *self.fluid.shape, generator=generator) * self.fluid
        part = self.part.flatten()
        sums = b.new_zeros(count, int(part.max()) + 1).index_add_(1, part, b.flatten(1))
        means = sums / torch.bincount(part).clamp_min(1)
        b = (b - means[:, part].view_as(b)) * self.fluid
        unit: Tensor = b / torch.linalg.vector_norm(b, dim=(1, 2, 3), keepdim=True)
        return unit


class RitzResiduals(Dataset[Tensor]):
    """Residuals of one geometry, and at the end 1 in its fluid cells: (group + 1, nx, ny, nz).

    What depends on the geometry alone is worked out once for a whole group. The i-th sample is a function of the seed
    and i.

    Parameters
    ----------
    bases : geometries, taken in turn.
    samples : how many groups.
    group : residuals of each.
    amplified : see `RitzBasis.residuals`.
    """

    def __init__(
        self, bases: Sequence[RitzBasis | White], samples: int, group: int, amplified: float, seed: int
    ) -> None:
        self.bases, self.samples, self.group, self.amplified, self.seed = bases, samples, group, amplified, seed

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> Tensor:
        basis = self.bases[index % len(self.bases)]
        generator = torch.Generator().manual_seed(self.seed + index)
        return torch.cat([basis.residuals(self.group, generator, self.amplified), basis.fluid[None]])
