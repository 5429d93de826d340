"""Time averages with an uncertainty: weighted sums in equal time batches, compensated, restartable.

The half width of a 95 % interval is the jackknife over batches times Student's t (Flyvbjerg & Petersen 1989,
J. Chem. Phys. 91, 461, for why batches must be long against the correlation time).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

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
        return self.sums.sum(axis=0) / self.weights.sum()

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
        variance = (count - 1) / count * ((left_out - left_out.mean(0)) ** 2).sum(0)
        return value, student_t.ppf(0.975, count - 1) * np.sqrt(variance)

    def _merged(self) -> tuple[Array, Array]:
        assert self.sums is not None
        filled = self.weights > 0  # a batch shorter than the sampling interval may have missed out
        sums, weights = self.sums[filled], self.weights[filled]
        if len(weights) > 1 and weights[-1] < 0.5 * self.width:
            sums = np.concatenate([sums[:-2], sums[-2:].sum(0, keepdims=True)])
            weights = np.append(weights[:-2], weights[-2:].sum())
        return sums, weights

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
