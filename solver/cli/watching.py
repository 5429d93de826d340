"""How a run stands, read from its folder while it writes there: nothing here can disturb it."""

from __future__ import annotations

import datetime
import math
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from solver.cli.run_list import Found, history, read, timings
from solver.errors import SolverError

Array = NDArray[np.float64]
ROWS = 400  # of the history
LEFT = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\S* INFO .* (\d+) s left\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Profile:
    """Mean velocity in wall units at ``y_plus``, that of a reference called `name` (else NaN); averaging time."""

    y_plus: Array
    u_plus: Array
    reference: Array
    name: str
    duration: float


@dataclass(frozen=True)
class Look:
    """A run as it stands."""

    run: Found
    history: dict[str, list[float]]
    seconds_left: float
    profile: Profile | None
    milliseconds: dict[str, float]

    @property
    def share(self) -> float:
        """Of the way to the end of the case; 0 where that is not known."""
        share = self.run.time / self.run.end if self.run.end > 0 else 0.0
        return min(max(share, 0.0), 1.0) if math.isfinite(share) else 0.0


def look(folder: Path) -> Look:
    """Read what a run has written so far; raises nothing for what it holds."""
    run = read(folder)
    return Look(
        run,
        history(folder, ROWS),
        seconds_left(folder, datetime.datetime.now()) if run.writer else math.nan,
        _profile(folder, _newest(folder)),
        timings(folder),
    )


def seconds_left(folder: Path, now: datetime.datetime) -> float:
    """What the last line of progress in ``log.txt`` said, less the time since; NaN without one."""
    try:
        with (folder / "log.txt").open("rb") as file:
            file.seek(max(0, (folder / "log.txt").stat().st_size - 8192))
            said = LEFT.findall(file.read().decode(errors="replace"))
    except OSError:
        return math.nan
    if not said:
        return math.nan
    when, seconds = said[-1]
    return max(float(seconds) - (now - datetime.datetime.fromisoformat(when)).total_seconds(), 0.0)


def _newest(folder: Path) -> tuple[str, float]:
    """The file that the profile is read from, and when it was written."""
    from solver.files.checkpoint_file import checkpoints

    for path in reversed(checkpoints(folder)):
        try:
            return str(path), path.stat().st_mtime
        except OSError:  # it has just been replaced by a later one
            continue
    return "", 0.0


@lru_cache(maxsize=4)
def _profile(folder: Path, newest: tuple[str, float]) -> Profile | None:
    """The averages in the newest checkpoint, of a flow along walls."""
    from solver.analysis.channel import wall_flows
    from solver.analysis.moments import NAMES
    from solver.analysis.reference import ChannelReference, comparable
    from solver.case.case import load_case
    from solver.files import checkpoint_file
    from solver.observers.averages import driven

    if not newest[0]:
        return None
    try:
        case, beside = load_case(folder)
        grid, kept = case.build_grid(), checkpoint_file.read(Path(newest[0]))
        sums = {name: array[()] for name, array in kept.group("statistics").items()}
        kept.close()
        flow = wall_flows(grid, case.flow.nu, driven(case)).get("") if case.flow.nu > 0 else None
        known = "sums" in sums and sums["sums"].shape[1] == len(NAMES) and sums["weights"].sum() > 0
        if flow is None or not grid.z.is_fourier or not known:
            return None
        means = sums["sums"].sum(axis=0) / sums["weights"].sum()
        u_plus, y_plus = flow.profiles(means)[0], flow.distance * flow.scalars(means)[0] / flow.nu
        files = case.reference.files(beside) if case.reference else {}
        reference, name = np.full_like(u_plus, np.nan), ""
        if case.reference is not None and "profiles" in files and comparable(grid):
            target, name = ChannelReference.read(files["profiles"]), case.reference.name
            reference = target.profile("u_mean", y_plus / target.re_tau)
    except (SolverError, OSError):  # a damaged checkpoint; the next one may be whole
        return None
    return Profile(y_plus, u_plus, reference, name, float(sums["weights"].sum()))
