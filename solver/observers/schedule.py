"""When a hook acts. A schedule remembers nothing: legs of a run make one run, also where the interval has changed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from solver.flow.simulation import Simulation

ROUND_OFF = 1e-6  # of an interval: a time that is a sum of steps counts as the multiple it is so close to
GOLDEN = (3 - math.sqrt(5)) / 2  # 0.382, the share of the circle whose multiples fill it most evenly


@dataclass(frozen=True)
class TimeSchedule:
    """The first step that reaches each absolute multiple of `interval` time units, and the initial field; 0 is never.

    A step longer than the interval, as surrogates take them, is due once: some multiple always lies within it, however
    many there are.
    """

    interval: float

    def due(self, simulation: Simulation) -> bool:
        """Whether a multiple of the interval lies within the last step."""
        if self.interval <= 0:
            return False
        if simulation.step_count == 0 or simulation.dt >= self.interval:
            return True
        return self._multiples(simulation.t) > self._multiples(simulation.t - simulation.dt)

    def _multiples(self, t: float) -> int:
        return math.floor(t / self.interval + ROUND_OFF)


@dataclass(frozen=True)
class StepSchedule:
    """Every step whose number is a multiple of `every`."""

    every: int

    def due(self, simulation: Simulation) -> bool:
        """Whether it is such a step."""
        return simulation.step_count % self.every == 0


@dataclass(frozen=True)
class SamplingSchedule:
    """One step in almost `every`, so that averages see all phases of whatever repeats itself after some steps.

    A corrector that acts every second step, sampled every tenth, would always be seen in the same phase. The samples
    are the steps ``floor(m a)`` with ``a = every - 0.382``: gaps of `every` and of one less in a quasi-periodic order.
    Because a is irrational they are spread evenly over the phases of a cycle of any length (Weyl's theorem), and the
    length of a gap says nothing about the phase, so that weights by the time passed are unbiased too.
    """

    every: int

    def due(self, simulation: Simulation) -> bool:
        """Whether some ``floor(m a)`` is the number of the step."""
        spacing = self.every - GOLDEN if self.every > 1 else 1.0
        return math.ceil((simulation.step_count + 1) / spacing) > math.ceil(simulation.step_count / spacing)
