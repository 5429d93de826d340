"""What a state operator is worth over many steps: errors against a trajectory, and the profiles it settles to."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch

from closures.coupling.frames import Trajectory
from closures.losses.relative_l2 import fluctuation_error
from closures.training.long_run import LongRun
from solver.analysis.channel import ERRORS


@torch.no_grad()
def judge(path: Trajectory, flow: LongRun, trajectory: int, steps: int, settled: int) -> dict[str, Any]:
    """A rollout from every tenth frame of a trajectory for errors, and a long one from its first for profiles.

    Parameters
    ----------
    path, flow : the operator from frame to frame, and as a surrogate, whose run ends with the first refused answer.
    steps, settled : of the long run, and how many of them are before its averages.

    Returns
    -------
    ``errors`` in percent, of one and of five steps and of `ERRORS` (None where the flow was lost, or friction
    is negative); ``stays``, the steps before it was; ``milliseconds`` of processor time a step, with the projection.
    """
    span, source = flow.source.step, flow.source
    values = torch.from_numpy(np.moveaxis(source.read(trajectory, slice(None)), -1, 1)).float()
    one, five, started = [], [], time.process_time()
    for first in range(0, len(values) - 5, 10):
        answers = path.values(path.path(path.start(values[first]), 5))
        found = fluctuation_error(answers.to(values), values[first : first + 6], path.domain)
        one.append(float(found[1]))
        five.append(float(found[5]))
    milliseconds = 1e3 * (time.process_time() - started) / (5 * len(one))
    average = (steps - settled - 0.5) * span  # the last step ends beyond it, whatever round-off adds to the time
    reached = flow(flow.first(trajectory), settled * span, average)
    errors: dict[str, float | None] = {"one step": 100 * float(np.mean(one)), "five steps": 100 * float(np.mean(five))}
    profiles = dict.fromkeys(ERRORS) if reached is None else flow.errors(reached.means)
    errors |= {name: 100 * v if v is not None and math.isfinite(v) else None for name, v in profiles.items()}
    return {"errors": errors, "stays": round(flow.simulation.t / span), "milliseconds": milliseconds}
