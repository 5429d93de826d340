"""How far the run is, on the root rank only: a bar on a terminal, lines elsewhere and in the log."""

from __future__ import annotations

import time
from collections.abc import Callable

from solver.discretisation import fusion
from solver.flow.simulation import Simulation
from solver.terminal import Bar


class Way:
    """The way from here to time `end`, or so many `steps`, whichever comes first."""

    def __init__(self, simulation: Simulation, end: float, steps: int | None) -> None:
        self.end, self.steps = end, steps
        self.start, self.first_step = simulation.t, simulation.step_count

    def share(self, simulation: Simulation) -> float:
        """Share of it that is done."""
        in_time = (simulation.t - self.start) / (self.end - self.start) if self.end > self.start else 1.0
        in_steps = (simulation.step_count - self.first_step) / self.steps if self.steps else 0.0
        return min(max(in_time, in_steps), 1.0)

    def place(self, simulation: Simulation) -> str:
        """Where the run is, in words."""
        return f"step {simulation.step_count}  t {simulation.t:.4g}/{self.end:.4g}  dt {simulation.dt:.1e}"


class ProgressLines:
    """Says a line at each tenth of the way, and when the last one was `longest` seconds ago."""

    name = "progress"

    def __init__(self, way: Way, say: Callable[[str], object], longest: float = 600.0) -> None:
        self.way, self.say, self.longest = way, say, longest
        self.tenth, self.compiled = 0, fusion.compiling.seconds
        self.started = self.said = time.monotonic()

    def __call__(self, simulation: Simulation) -> None:
        """Say it, if there is something new."""
        now, done = time.monotonic(), self.way.share(simulation)
        tenth = int(10 * done * (1 + 1e-12))
        if tenth == self.tenth and (now - self.said < self.longest or done == 0):
            return
        percent = 10 * tenth if tenth > self.tenth else int(100 * done)
        self.tenth, self.said = tenth, now
        stepping = now - self.started - (fusion.compiling.seconds - self.compiled)
        limit = simulation.control.limit
        self.say(f"{percent:3d} %  {self.way.place(simulation)} ({limit})  {stepping * (1 - done) / done:.0f} s left")


class ProgressBar:
    """Moves a bar on."""

    name = "progress"

    def __init__(self, way: Way, bar: Bar) -> None:
        self.way, self.bar = way, bar

    def __call__(self, simulation: Simulation) -> None:
        """Tell it how far the run is."""
        self.bar.reach(self.way.share(simulation), self.way.place(simulation))
