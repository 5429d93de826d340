"""White noise for networks whose answer is one of many that may follow."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor

from closures.operators.domain import Domain


def white_noise(seeds: Sequence[int], channels: int, domain: Domain, lengths: Sequence[float], like: Tensor) -> Tensor:
    """Means over the cells of `domain` of white noise in space, ``(seeds, channels, nx, ny, nz)``.

    White noise of one density has the variance density / volume in a cell. The density is the product of `lengths`: in
    a cell of these sides a value is N(0, 1), on a finer grid larger, so that waves which two grids have in common have
    the same energy on both. It is drawn for the whole field and then cut, on the processor and in single precision: a
    function of the seed alone, whatever ranks or device there are.

    Parameters
    ----------
    seeds : one for each field.
    channels : independent ones.
    domain : the points, of which a rank may have a part.
    lengths : along x, y and z.
    like : of which type and where the noise is wanted.
    """
    shape = channels, *(line.complete.n for line in domain.lines)
    drawn = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    here = domain.like(like)
    cells = prod(line.length for line in domain.lines) * here.volumes
    return domain.y.cut_out(torch.stack(drawn)).to(like) * (prod(lengths) / cells).sqrt()


def seeds_of(seed: int, turn: int, count: int = 1) -> tuple[int, ...]:
    """Of the `count` answers that a network gives at one `turn`: other ones at every turn, the same in every run."""
    return tuple(int(n) for n in np.random.SeedSequence([seed, turn]).generate_state(count))


def draws(network: object) -> bool:
    """Whether the answer of `network` depends on seeds, a sequence that it takes behind field and domain."""
    return bool(getattr(network, "stochastic", False))
