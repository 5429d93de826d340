"""What a member costs: wall clock and cores for a unit of flow time, memory, and the closure's share."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from closures.compare.runs import Member, Run


@dataclass(frozen=True)
class Cost:
    """Means over the runs of a member; a unit of time is h/u_tau of the reference for channels, else the case's own.

    Observing (statistics, time series, output) and compiling are not counted. NaN where it was not measured.
    """

    seconds_per_step: float
    seconds_per_unit: float
    core_seconds_per_unit: float
    closure_share: float
    memory_mib: float
    cores: int
    device: str
    guard_interventions: int
    max_divergence: float
    time: float

    def as_dict(self) -> dict[str, Any]:
        """For reports."""
        return asdict(self)


def number(run: Run, key: str) -> float:
    """An entry of a summary, NaN where that has none."""
    value = run.summary.get(key)
    return np.nan if value is None else float(value)


def seconds_per_time(run: Run) -> float:
    """Wall clock for one time unit of the case."""
    s = run.summary
    return number(run, "seconds_per_step") * s["steps"] / s["time"] if s["time"] else np.nan


def cost_of(member: Member, unit: float) -> Cost:
    """The cost of a member; `unit` is the length of a time unit in those of the case."""
    summaries = [run.summary for run in member.runs]
    seconds = float(np.mean([seconds_per_time(run) for run in member.runs])) * unit
    cores = max(int(s["ranks"]) * int(s["threads"]) for s in summaries)
    return Cost(
        seconds_per_step=float(np.mean([number(run, "seconds_per_step") for run in member.runs])),
        seconds_per_unit=seconds,
        core_seconds_per_unit=seconds * cores,
        closure_share=float(np.mean([number(run, "closure_fraction") for run in member.runs])),
        memory_mib=float(np.max([number(run, "memory_mib") for run in member.runs])),
        cores=cores,
        device=", ".join(sorted({str(s["device"]) for s in summaries})),
        guard_interventions=sum(int(s.get("guard_interventions") or 0) for s in summaries),
        max_divergence=float(np.max([s.get("max_divergence") or 0.0 for s in summaries])),
        time=float(np.min([s["time"] for s in summaries])),
    )


def affordable(members: list[Member]) -> list[float]:
    """Averaging time that each member has after the wall clock of the cheapest whole run; 0 if still settling."""
    totals = [[seconds_per_time(run) * run.summary["time"] for run in m.runs] for m in members if not m.broken]
    budget = min((t for some in totals for t in some if np.isfinite(t)), default=np.nan)
    times = []
    for member in members:
        statistics = member.runs[0].case.statistics
        rate = float(np.mean([seconds_per_time(run) for run in member.runs]))
        start = statistics.start if statistics else 0.0
        times.append(max(budget / rate - start, 0.0) if np.isfinite(budget / rate) else 0.0)
    return times
