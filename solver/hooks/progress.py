"""A progress bar with the time left, on the root rank only."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from solver.simulation import Simulation


class ProgressBar:
    """Shows simulated time, step, dt and what limits it; plain lines every tenth of the run where there is no terminal."""

    name = "progress"

    def __init__(self, end: float, start: float, console: Console) -> None:
        self.end, self.start, self.console = end, start, console
        self.reported = -1
        self.bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[detail]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("time step", total=end - start, detail="")
        self.bar.start()

    def __call__(self, simulation: Simulation) -> None:
        """Move on."""
        done = simulation.t - self.start
        detail = f"step {simulation.step_count}  t = {simulation.t:.4g}/{self.end:.4g}  dt = {simulation.dt:.2e} ({simulation.control.limit})"
        self.bar.update(self.task, completed=done, detail=detail)
        if not self.console.is_terminal:
            tenth = int(10 * done / (self.end - self.start)) if self.end > self.start else 10
            if tenth > self.reported:
                self.reported = tenth
                left = self.bar.tasks[0].time_remaining
                self.console.print(
                    f"{10 * tenth:3d} %  {detail}" + (f"  about {left:.0f} s left" if left else "")
                )

    def close(self) -> None:
        """Leave the terminal as it was."""
        self.bar.stop()
