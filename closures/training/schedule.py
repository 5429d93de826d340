"""Learning rate and sample order as functions of the step: nothing to store, nothing that can be restored wrongly."""

from __future__ import annotations

import math

import numpy as np

from closures.training.tables import OptimiserTable

FIRST_SHARE, LAST_SHARE, RISE = 1 / 25, 1e-4, 0.3  # of one cycle


def rate(optimiser: OptimiserTable, step: int, steps: int, steps_per_epoch: int) -> float:
    """Learning rate of step 0 .. steps - 1.

    ``one_cycle``: a cosine up from 1/25 over 30 % of all steps and a cosine down to 1e-4 of it (Smith & Topin 2018,
    arXiv 1708.07120). The others rise linearly over the share `warm_up`, then ``cosine`` falls to zero.
    """
    peak, done = optimiser.rate, (step + 1) / steps
    if optimiser.schedule == "one_cycle":
        if done < RISE:
            return peak * _between(FIRST_SHARE, 1.0, done / RISE)
        return peak * _between(1.0, LAST_SHARE, (done - RISE) / (1.0 - RISE))
    if done < optimiser.warm_up:
        return peak * done / optimiser.warm_up
    if optimiser.schedule == "cosine":
        return peak * _between(1.0, 0.0, (step / steps - optimiser.warm_up) / (1.0 - optimiser.warm_up))
    if optimiser.schedule == "step":
        return peak * optimiser.factor ** (step // steps_per_epoch // optimiser.every)
    return peak


def _between(a: float, b: float, share: float) -> float:
    """From a to b along half a cosine."""
    return b + (a - b) * 0.5 * (1.0 + math.cos(math.pi * min(max(share, 0.0), 1.0)))


def batches(samples: int, batch: int, seed: int, epoch: int, rank: int, size: int) -> list[list[int]]:
    """This process's samples of every batch of an epoch; an incomplete last batch is left out.

    The order is drawn over all samples, so that it does not depend on the number of processes.

    Examples
    --------
    >>> whole = batches(7, 4, 271828, 0, 0, 1)
    >>> [batches(7, 4, 271828, 0, rank, 2) for rank in (0, 1)] == [[whole[0][:2]], [whole[0][2:]]]
    True
    """
    order = np.random.default_rng([seed, epoch]).permutation(samples)[: samples // batch * batch].reshape(-1, batch)
    own = batch // size
    batches: list[list[int]] = order[:, rank * own : (rank + 1) * own].tolist()
    return batches


def seeds(seed: int, step: int, batch: int, rank: int, size: int) -> list[int]:
    """A seed for each of this process's samples of one step, whatever the number of processes."""
    own = batch // size
    drawn = np.random.SeedSequence([seed, step]).generate_state(batch, np.uint32)
    return [int(s) for s in drawn[rank * own : (rank + 1) * own]]
