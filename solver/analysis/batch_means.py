"""Time averages with an uncertainty: weighted sums in equal time batches, compensated, restartable.

The half width of a 95 % interval is the jackknife over batches, widened by their correlation, times Student's t
(Flyvbjerg & Petersen 1989, J. Chem. Phys. 91, 461, for why batches must be long against the correlation time).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

Array = NDArray[np.float64]


class BatchMeans:
    """Weighted means of arrays of one shape, kept batch by batch.

    Parameters
    ----------
    start : time at which averaging begins.
    width : duration of a batch.
    """

    def __init__(self, start: float, width: float) -> None:
        self.start, self.width = start, width
        self.weights: Array = np.zeros(0)
        self.sums: Array | None = None
        self.carry: Array | None = None

    def add(self, t: float, weight: float, values: Array) -> None:
        """Add a sample that stands for the duration `weight` ending at `t`; samples before `start` are ignored."""
        batch = int((t - self.start) / self.width * (1 + 1e-12))
        if t < self.start or weight <= 0:
            return
        if self.sums is None or self.carry is None:
            self.sums, self.carry = np.zeros((0, *values.shape)), np.zeros((0, *values.shape))
        while batch >= len(self.weights):
            self.weights = np.append(self.weights, 0.0)
            self.sums = np.concatenate([self.sums, np.zeros((1, *values.shape))])
            self.carry = np.concatenate([self.carry, np.zeros((1, *values.shape))])
        addend = weight * values - self.carry[batch]  # Kahan
        total = self.sums[batch] + addend
        self.carry[batch] = (total - self.sums[batch]) - addend
        self.sums[batch] = total
        self.weights[batch] += weight

    @property
    def duration(self) -> float:
        """Time averaged over so far."""
        return float(self.weights.sum())

    @property
    def mean(self) -> Array:
        """Mean over all batches."""
        assert self.sums is not None
        mean: Array = self.sums.sum(axis=0) / self.weights.sum()
        return mean

    def estimate(self, function: Callable[[Array], Array]) -> tuple[Array, Array]:
        """`function` of the mean, and the 95 % half width from leaving out one batch at a time.

        A batch that is not yet half full joins its predecessor; with fewer than four batches the width is NaN.
        """
        assert self.sums is not None
        sums, weights = self._merged()
        value = np.asarray(function(sums.sum(0) / weights.sum()))
        count = len(weights)
        if count < 4:
            return value, np.full_like(value, np.nan, dtype=float)
        left_out = np.stack(
            [function((sums.sum(0) - s) / (weights.sum() - w)) for s, w in zip(sums, weights, strict=True)]
        )
        return value, stdtrit(count - 1, 0.975) * np.sqrt(jackknife_variance([left_out]))

    def _merged(self) -> tuple[Array, Array]:
        assert self.sums is not None
        return whole_batches(self.sums, self.weights, self.width)

    def state(self) -> dict[str, Array]:
        """Arrays that continue the average exactly."""
        state = {"span": np.array([self.start, self.width]), "weights": self.weights}
        if self.sums is not None and self.carry is not None:
            state |= {"sums": self.sums, "carry": self.carry}
        return state

    def restore(self, state: dict[str, Array]) -> None:
        """Continue from `state`; one without samples leaves start and width as they are."""
        if not len(state["weights"]):
            return
        self.start, self.width = (float(x) for x in state["span"])
        self.weights = state["weights"]
        self.sums, self.carry = state.get("sums"), state.get("carry")


def whole_batches(sums: Array, weights: Array, width: float) -> tuple[Array, Array]:
    """Sums and weights of the batches with samples; a last one that is less than half full joins its predecessor."""
    keep = weights > 0  # a batch shorter than the sampling interval may have missed out
    sums, weights = sums[keep], weights[keep]
    if len(weights) > 1 and weights[-1] < 0.5 * width:
        sums = np.concatenate([sums[:-2], sums[-2:].sum(0, keepdims=True)])
        weights = np.append(weights[:-2], weights[-2:].sum())
    return sums, weights


def jackknife_variance(left_out: Sequence[Array]) -> Array:
    """Variance of an estimate from its values ``(batches, ...)`` without one batch, run by run.

    Neighbouring batches are not quite independent. With r the correlation at lag one within runs, plus 1/n because
    centring biases it by that much, the variance grows by ``1 + 2 max(r, 0)``: the first term of the sum over lags
    that a mean's variance is (Priestley 1981, Spectral Analysis and Time Series, eq. 5.3.5).

    Examples
    --------
    >>> means = np.array([1.0, 3.0, 2.0, 2.0])  # of four batches
    >>> left_out = (means.sum() - means) / 3
    >>> bool(np.isclose(jackknife_variance([left_out]), means.var(ddof=1) / 4))
    True
    """
    n = sum(len(run) for run in left_out)
    centre = np.concatenate(left_out).mean(0)
    deviations = [run - centre for run in left_out]
    squares = np.sum([(d**2).sum(0) for d in deviations], axis=0)
    neighbours = np.sum([(d[1:] * d[:-1]).sum(0) for d in deviations], axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        r = np.where(squares > 0, neighbours / squares + 1 / n, 0.0)
    variance: Array = (n - 1) / n * squares * (1 + 2 * np.maximum(r, 0.0))
    return variance
