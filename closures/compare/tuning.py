"""Fair baselines: a model's constant tuned on the same reference and the same error as the comparison."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from scipy.optimize import minimize_scalar

from closures.compare.jobs import Job, again, execute, plan
from closures.compare.references import resolve
from closures.compare.runs import Member, Run
from closures.compare.verdicts import compare_members
from closures.registry.registry import create
from solver.case.case import load_case
from solver.errors import CaseError

CONSTANTS = {"smagorinsky": "c_s", "wale": "c_w", "vreman": "c", "sigma": "c_sigma"}
RANGE = (0.2, 1.6)  # of the default
SHARE = 0.35  # of the times of the compared runs
TRIALS = 7
BROKEN_ERROR = 10.0  # of a run that diverged or turned laminar: larger than any that did not


@dataclass(frozen=True)
class Trial:
    """One value and the leading error of its run."""

    value: float
    error: float


@dataclass(frozen=True)
class Tuned:
    """The outcome for one closure; `best` is the smallest error among the trials."""

    closure: str
    option: str
    default: float
    best: float
    end: float
    trials: tuple[Trial, ...]

    def as_dict(self) -> dict[str, Any]:
        """For reports."""
        return asdict(self)

    @property
    def spec(self) -> str:
        """As ``--closures`` takes it."""
        return f"{self.closure}:{self.option}={self.best:.4g}"


def tune(
    source: Path, specs: Sequence[str], overrides: Sequence[str], reference: str | None, console: Console
) -> list[Tuned]:
    """Tune every closure of `specs` that has a constant, one a core; returns a `Tuned` each.

    The search is Brent's, bounded (scipy's `minimize_scalar`), with `TRIALS` evaluations at most: the error of a short
    run is noisy, so more would fit the noise.
    """
    names = [spec for spec in specs if spec in CONSTANTS]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        found = list(pool.map(lambda name: tune_one(source, name, overrides, reference, console), names))
    for tuned in found:
        change = f"{tuned.option} = {tuned.best:.4g} (default {tuned.default:.4g}), {len(tuned.trials)} runs"
        console.print(f"{tuned.closure}: {change}", highlight=False)
    return found


def tune_one(source: Path, name: str, overrides: Sequence[str], reference: str | None, console: Console) -> Tuned:
    """Search the constant of one closure; every trial is told as it ends."""
    option = CONSTANTS[name]
    job = _short(plan(source, name, overrides))
    default = _default(job, option)
    trials: dict[float, float] = {}

    def objective(value: float) -> float:
        rounded = float(f"{value:.4g}")
        if rounded not in trials:
            trials[rounded] = _error(again(job, f"closure.{option}={rounded!r}"), reference)
            console.print(f"{name}: {option} = {rounded:.4g}: error {trials[rounded]:.4g}", highlight=False)
        return trials[rounded]

    bounds = (RANGE[0] * default, RANGE[1] * default)
    minimize_scalar(objective, bounds=bounds, method="bounded", options={"maxiter": TRIALS, "xatol": 0.02 * default})
    best = min(trials, key=trials.__getitem__)
    ordered = tuple(Trial(value, error) for value, error in sorted(trials.items()))
    return Tuned(name, option, default, best, job.case.time.end, ordered)


def _short(job: Job) -> Job:
    """The job over `SHARE` of its times."""
    settings = [f"time.end={SHARE * job.case.time.end:.6g}"]
    if job.case.statistics is not None:
        settings.append(f"statistics.start={SHARE * job.case.statistics.start:.6g}")
    return again(job, *settings)


def _default(job: Job, option: str) -> float:
    """The constant that the closure has unless told otherwise."""
    closure = create(job.closure, grid=job.case.build_grid(), nu=job.case.flow.nu, options=job.case.closure.options)
    return float(getattr(closure, option))


def _error(job: Job, reference: str | None) -> float:
    """Leading error of a run, which is made if it is missing."""
    ended = execute(job)
    if ended.run is None:
        raise CaseError(f"--tune: {job.label}: {ended.failure}")
    return leading_error(ended.run, reference, load_case(job.source)[1])


def leading_error(run: Run, reference: str | None, folder: Path | None = None) -> float:
    """The error that tuning makes small: the first quantity of the comparison; `folder` is that of `resolve`.

    Raises
    ------
    CaseError : there is no reference.
    """
    if run.broken:
        return BROKEN_ERROR
    target = resolve(reference, [run], folder)
    found = compare_members([Member(run.case.closure.name, (run,))], target).members[0].errors
    if found is None:
        raise CaseError("--tune: there is no reference to tune on: give one with --reference")
    return float(found.value[0])
