"""How far the run is, on the root rank only: a bar on a terminal, elsewhere a line each tenth of the run."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from solver.simulation import Simulation

REFRESH_SECONDS = 0.5


class ProgressBar:
    """Counts time towards `end`, or steps where their number is given; a context manager."""

    name = "progress"

    def __init__(self, simulation: Simulation, end: float, steps: int | None, console: Console) -> None:
        self.end, self.steps, self.console = end, steps, console
        self.start, self.first_step = simulation.t, simulation.step_count
        self.tenth, self.started, self.shown = 0, time.monotonic(), 0.0
        columns = (
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(compact=True),
        )
        self.bar = Progress(*columns, console=console, expand=True, auto_refresh=False, disable=not console.is_terminal)
        self.task = self.bar.add_task("", total=1.0)

    def share(self, simulation: Simulation) -> float:
        """Share of the run that is done."""
        in_time = (simulation.t - self.start) / (self.end - self.start) if self.end > self.start else 1.0
        in_steps = (simulation.step_count - self.first_step) / self.steps if self.steps else 0.0
        return min(max(in_time, in_steps), 1.0)

    def __call__(self, simulation: Simulation) -> None:
        """Move on; show it if there is something new to see."""
        done = self.share(simulation)
        detail = f"step {simulation.step_count}  t {simulation.t:.4g}/{self.end:.4g}  dt {simulation.dt:.1e}"
        if not self.console.is_terminal:
            self._line(done, detail)
        elif done >= 1.0 or time.monotonic() - self.shown >= REFRESH_SECONDS:
            self.shown = time.monotonic()
            self.bar.update(self.task, completed=done, description=detail, refresh=True)

    def _line(self, done: float, detail: str) -> None:
        tenth = int(10 * done * (1 + 1e-12))
        if tenth > self.tenth:
            self.tenth = tenth
            left = (time.monotonic() - self.started) * (1 - done) / done
            self.console.print(f"{10 * tenth:3d} %  {detail}  {left:.0f} s left", highlight=False)

    def __enter__(self) -> ProgressBar:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""
        self.bar.stop()
