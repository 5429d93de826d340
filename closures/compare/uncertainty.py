"""How sure a difference is: jackknife over batches and seeds, and the word that follows (docs/decisions/0012).

A `Sample` is what one side of a comparison knows: sums over batches of time, run by run. Any function of the means of
independent samples gets a variance, to which each sample contributes by leaving out one batch at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from solver.analysis.batch_means import Array, jackknife_variance

Word = Literal["better", "worse", "not distinguishable", "not judged", "diverged", "laminar"]
FEWEST = 4  # batches, below which their scatter says nothing
LEVEL = 0.95


@dataclass(frozen=True)
class Sample:
    """Weighted sums ``(batches, ...)`` and weights ``(batches,)`` of each run, in order of time."""

    sums: tuple[Array, ...]
    weights: tuple[Array, ...]

    @classmethod
    def of(cls, runs: Sequence[tuple[Array, Array]]) -> Sample:
        """Pool runs, each given as (sums, weights)."""
        return cls(tuple(s for s, _ in runs), tuple(w for _, w in runs))

    @property
    def count(self) -> int:
        """Number of batches."""
        return sum(len(w) for w in self.weights)

    @property
    def duration(self) -> float:
        """Time averaged over, all runs together."""
        return float(sum(w.sum() for w in self.weights))

    @property
    def mean(self) -> Array:
        """Mean over everything."""
        return self._total / self.duration

    @property
    def _total(self) -> Array:
        total: Array = np.sum([s.sum(0) for s in self.sums], axis=0)
        return total

    def left_out(self) -> list[list[Array]]:
        """Means without one batch, run by run."""
        total, duration = self._total, self.duration
        return [
            [(total - s) / (duration - w) for s, w in zip(sums, weights, strict=True)]
            for sums, weights in zip(self.sums, self.weights, strict=True)
        ]

    def first(self, duration: float) -> Sample:
        """The whole batches within the first `duration` of each run (at least one of each)."""
        counts = [max(int(np.searchsorted(np.cumsum(w), duration * (1 + 1e-9))), 1) for w in self.weights]
        return Sample(
            tuple(s[:n] for s, n in zip(self.sums, counts, strict=True)),
            tuple(w[:n] for w, n in zip(self.weights, counts, strict=True)),
        )


@dataclass(frozen=True)
class Estimate:
    """Values with the variance of their sampling error and its degrees of freedom (NaN where unknown)."""

    value: Array
    variance: Array
    freedom: Array

    @property
    def half_width(self) -> Array:
        """Half width of the 95 % interval."""
        half: Array = student_t.ppf(0.5 + LEVEL / 2, self.freedom) * np.sqrt(self.variance)
        return half

    @property
    def p_value(self) -> Array:
        """Probability of a value as far from zero as this by chance; NaN where the variance is unknown."""
        with np.errstate(divide="ignore", invalid="ignore"):
            score = np.abs(self.value) / np.sqrt(self.variance)
        exact = np.where(self.value == 0, 1.0, 0.0)
        return np.where(self.variance == 0, exact, 2 * student_t.sf(score, self.freedom))

    def item(self, i: int) -> Estimate:
        """One component."""
        return Estimate(self.value[i], self.variance[i], self.freedom[i])


def estimate(function: Callable[..., Array], *samples: Sample) -> Estimate:
    """`function` of the means of independent samples, with its sampling error.

    Variances of the samples add (jackknife in strata); degrees of freedom by Welch and Satterthwaite.
    """
    means = [sample.mean for sample in samples]
    value = np.asarray(function(*means), dtype=float)
    total, spread = np.zeros_like(value), np.zeros_like(value)
    for i, sample in enumerate(samples):
        if sample.count < FEWEST:
            unknown = np.full_like(value, np.nan)
            return Estimate(value, unknown, unknown)
        changed = [
            np.stack([np.asarray(function(*means[:i], m, *means[i + 1 :]), dtype=float) for m in run])
            for run in sample.left_out()
        ]
        variance = jackknife_variance(changed)
        total, spread = total + variance, spread + variance**2 / (sample.count - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = np.where(spread > 0, total**2 / spread, np.inf)
    return Estimate(value, total, freedom)


def over_repeats(values: Array, exact: bool = False) -> Estimate:
    """Mean of `values` ``(seeds, ...)`` and its error from their scatter; one value alone has none unless `exact`.

    Exact is what has no randomness, such as the decay of a Taylor-Green vortex.
    """
    count = len(values)
    mean = values.mean(0)
    if count > 1:
        return Estimate(mean, values.var(0, ddof=1) / count, np.full_like(mean, count - 1))
    if exact:
        return Estimate(mean, np.zeros_like(mean), np.full_like(mean, np.inf))
    return Estimate(mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan))


def survivors(p_values: Array) -> NDArray[np.bool_]:
    """Which of several hypotheses fall when all are looked at together (Holm 1979, Scand. J. Stat. 6, 65).

    The probability that any true one is rejected stays below 5 %. Unknown p values are not counted.
    """
    order = np.argsort(p_values)
    known = int(np.isfinite(p_values).sum())
    rejected = np.zeros(len(p_values), dtype=bool)
    for rank, i in enumerate(order[:known]):
        if not p_values[i] <= (1 - LEVEL) / (known - rank):
            break
        rejected[i] = True
    return rejected


def judge(differences: Sequence[Estimate], floors: Array) -> list[tuple[Word, ...]]:
    """A word for each quantity of each candidate, from its differences of errors (candidate minus baseline).

    "better" or "worse" need a difference that survives all that the table holds, every candidate and every quantity
    (and thereby an interval without zero), and is larger than `floors`, the reference's own uncertainty.
    """
    shape = len(differences), len(floors)
    holds = survivors(np.array([d.p_value for d in differences]).ravel()).reshape(shape)
    return [
        tuple(_word(*found) for found in zip(d.value, d.p_value, held, floors, strict=True))
        for d, held in zip(differences, holds, strict=True)
    ]


def _word(value: float, p_value: float, held: bool, floor: float) -> Word:
    if not np.isfinite(p_value):
        return "not judged"
    if not held or abs(value) <= floor:
        return "not distinguishable"
    return "better" if value < 0 else "worse"
