"""The network on the rank of the flows: with the weights of some step of the optimiser, it leads a flow astray."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from closures.coupling.frames import Trajectory
from closures.training.online.table import OnlineTable
from solver.flow.simulation import Simulation


class Student:
    """The network as it acts in a flow, with the weights of some step.

    Parameters
    ----------
    trajectory : of the network's answers.
    longest, rise, steps : it goes on alone for up to `longest` intervals from step ``rise * steps`` on.
    misfit : see `closures.training.online.table.OnPolicyTable`.
    """

    def __init__(self, trajectory: Trajectory, longest: int, rise: float, steps: int, misfit: float) -> None:
        self.trajectory, self.longest, self.rise = trajectory, longest, rise * steps
        self.misfit, self.version = misfit, -1

    def take(self, version: int, weights: Mapping[str, Tensor]) -> None:
        """Its weights are those before step `version` from now on."""
        self.trajectory.predictor.network.load_state_dict(dict(weights))
        self.version = version

    def alone(self, random: np.random.Generator) -> int:
        """For how many intervals it goes on alone, of none to as many as it may at this step; half of the time none."""
        may = math.floor(self.longest * min(1.0, self.version / self.rise)) if self.rise else self.longest
        return int(random.integers(1, may + 1)) if may and random.integers(2) else 0

    def lead(self, simulation: Simulation, table: OnlineTable, alone: int) -> bool:
        """Go on with a flow for so many intervals; whether it is still one that the teacher's equations know."""
        u, interval, flow = simulation.velocity.coefficients, table.interval, simulation.flow
        for _ in range(alone):
            before, u = u, self.trajectory.after(u)
        if not all(bool(torch.isfinite(c).all()) for c in u):
            return False
        misfit = flow.midpoint_residual(before, u, simulation.t + (alone - 1) * interval, interval)
        t, step = simulation.t + alone * interval, simulation.step_count + alone * table.steps
        simulation.state = replace(flow.start(u, settled=True), t=t, step=step)
        return misfit <= self.misfit
