"""What every time average in the loop has in common: when it samples, how it is gathered, stored and restored."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor

from solver.analysis.batch_means import Array, BatchMeans
from solver.discretisation.calculus import Operators
from solver.files.shares import Share
from solver.flow.simulation import Simulation
from solver.observers.schedule import SamplingSchedule


class TimeAverage(ABC):
    """Means of `sample` about every `every_steps` steps from `start` on, in batches of `width` time units.

    A sample is (..., local ny, n); it stands for the time since the one before.
    """

    name: str

    def __init__(self, operators: Operators, start: float, width: float, every_steps: int) -> None:
        self.operators, self.schedule = operators, SamplingSchedule(every_steps)
        self.means = BatchMeans(start, width)
        self._sampled_at: float | None = None

    @abstractmethod
    def sample(self, simulation: Simulation) -> Tensor:
        """The present value of what is averaged (collective)."""

    def __call__(self, simulation: Simulation) -> None:
        """Sample, if it is time."""
        if not self.schedule.due(simulation) or simulation.t < self.means.start:
            return
        with simulation.timers("statistics"):
            first = simulation.dt * self.schedule.every
            weight = first if self._sampled_at is None else simulation.t - self._sampled_at
            self._sampled_at = simulation.t
            self.means.add(simulation.t, weight, self.sample(simulation).cpu().double().numpy())

    def gathered(self) -> BatchMeans | None:
        """The accumulator over the whole grid on the root, None elsewhere (collective)."""
        parts = {name: self._gather(array) for name, array in self.means.state().items()}
        if not self.operators.decomposition.is_root:
            return None
        whole = BatchMeans(self.means.start, self.means.width)
        whole.restore({name: array for name, array in parts.items() if array is not None})
        return whole

    def _gather(self, array: Array) -> Array | None:
        if array.ndim < 3:
            return array
        whole = self.operators.decomposition.gather_planes(torch.from_numpy(array))
        return None if whole is None else whole.numpy()

    def state(self) -> dict[str, Array | Share]:
        """What a checkpoint keeps."""
        last = np.array([np.nan if self._sampled_at is None else self._sampled_at])
        found = self.means.state() | {"sampled_at": last}
        return {name: Share(a, a.ndim - 2) if a.ndim > 2 else a for name, a in found.items()}

    def restore(self, state: dict[str, Array]) -> None:
        """Continue from the global arrays `state`, on any number of ranks."""
        planes = self.operators.decomposition.planes
        self.means.restore({name: a[..., planes, :] if a.ndim > 2 else a[()] for name, a in state.items()})
        last = float(state["sampled_at"][0])
        self._sampled_at = None if np.isnan(last) else last
