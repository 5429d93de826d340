"""What a state operator is worth over many steps: errors against a trajectory, and the profiles it settles to."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch

from closures.coupling.frames import Trajectory
from closures.data.windows import TrajectoryFiles
from closures.losses.relative_l2 import fluctuation_error
from closures.training.long_run import LongRun
from solver.analysis.channel import ERRORS


@torch.no_grad()
def few_steps(path: Trajectory, source: TrajectoryFiles, trajectory: int) -> dict[str, Any]:
    """Rollouts from every tenth frame of a trajectory, by the operator from frame to frame.

    Returns
    -------
    ``errors`` of one and of five steps in percent of the fluctuation; ``frozen``, those of a frozen field;
    ``milliseconds`` of processor time a step, with the projection.
    """
    values = torch.from_numpy(np.moveaxis(source.read(trajectory, slice(None)), -1, 1)).float()
    found, frozen, started = [], [], time.process_time()
    for first in range(0, len(values) - 5, 10):
        answers, labels = path.values(path.path(path.start(values[first]), 5)), values[first : first + 6]
        found.append(fluctuation_error(answers.to(values), labels, path.domain))
        frozen.append(fluctuation_error(labels[:1].expand_as(labels), labels, path.domain))
    milliseconds = 1e3 * (time.process_time() - started) / (5 * len(found))
    return {"errors": _of_steps(found), "frozen": _of_steps(frozen), "milliseconds": milliseconds}


def _of_steps(found: list[torch.Tensor]) -> dict[str, float]:
    """Means over rollouts, in percent."""
    one, five = (100 * float(torch.stack(found)[:, steps].mean()) for steps in (1, 5))
    return {"one step": one, "five steps": five}


@torch.no_grad()
def many_steps(flow: LongRun, trajectory: int, steps: int, settled: int) -> dict[str, Any]:
    """A run from the first frame of a trajectory, by the operator as a surrogate; the first refused answer ends it.

    Parameters
    ----------
    steps, settled : of the run, and how many of them are before its averages.

    Returns
    -------
    ``profiles``, the errors `ERRORS` in percent (None where the flow was lost, or friction is negative); ``stays``, the
    steps before it was.
    """
    span = flow.source.step
    average = (steps - settled - 0.5) * span  # the last step ends beyond it, whatever round-off adds to the time
    reached = flow(flow.first(trajectory), settled * span, average)
    profiles = dict.fromkeys(ERRORS) if reached is None else flow.errors(reached.means)
    errors = {name: 100 * v if v is not None and math.isfinite(v) else None for name, v in profiles.items()}
    return {"profiles": errors, "stays": round(flow.simulation.t / span)}
