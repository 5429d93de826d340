"""The metrics of a flow: its own, and those that other packages declare.

Another package adds one with::

    [project.entry-points."solver.metrics"]
    mine = "my_package.metrics:MINE"

where ``MINE`` is a `solver.analysis.metrics.Metric` whose `flow` says what it judges and whose function takes what the
judge of that flow sees; `solver compare` then has it in every table, with its interval.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from solver.analysis.batch_means import Array
from solver.analysis.metrics import Metric
from solver.case.plugins import Registry
from solver.errors import CaseError


def _own() -> list[str]:
    from closures.compare import boxes, channels, layers

    return [metric.name for room in (channels, boxes, layers) for metric in room.METRICS]


METRICS = Registry("solver.metrics", "metric:", {}, _own)


def added(*flows: str) -> list[Metric]:
    """Those of other packages for a flow that is each of `flows`.

    Raises
    ------
    CaseError : one cannot be imported, is no metric, or has the name of another.
    """
    for problem in METRICS.clashes().values():
        raise CaseError(f"metric: {problem}")
    found = []
    for name in METRICS.foreign():
        metric = METRICS.load(name)
        if not isinstance(metric, Metric) or metric.name != name:
            expected = f"should be a solver.analysis.metrics.Metric called '{name}'"
            raise CaseError(f"metric: {METRICS.origin(name)} {expected}: see docs/add_a_metric.md")
        if metric.flow in flows:
            found.append(replace(metric, function=_blamed(name, metric.function)))
    return found


def _blamed(name: str, function: Callable[[Any], float]) -> Callable[[Any], float]:
    """A function of another package, which fails in its own name."""

    def measure(seen: Any) -> float:
        with METRICS.blaming(name):
            return float(function(seen))

    return measure


def measured(metrics: Sequence[Metric], seen: Any) -> Array:
    """What each metric finds in what the judge has seen, (metrics,)."""
    return np.array([metric.function(seen) for metric in metrics], dtype=float)
