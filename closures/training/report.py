"""What a training shows and keeps: a bar with the time left, ``history.csv``, and what `loggers` write."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType

from rich.console import Console

from closures.losses.objective import LOSS
from closures.training.loggers import loggers
from solver.files.folder import write_table
from solver.terminal import Bar

NOTHING: Mapping[str, float] = MappingProxyType({})


class Report:
    """A context manager; silent and writing nothing unless it is of the root process.

    Parameters
    ----------
    folder : receives ``history.csv`` and ``tensorboard``.
    steps, step : in all, and done already.
    scalars : the names of the two numbers of a step.
    """

    def __init__(
        self,
        folder: Path,
        steps: int,
        step: int,
        console: Console | None,
        root: bool,
        scalars: tuple[str, str] = ("training/loss", "training/rate"),
    ) -> None:
        self.folder, self.root, self.scalars = folder, root, scalars
        self.steps, self.console = steps, console if root else None
        self.bar = Bar(steps, step, self.console, lines=False)  # there is one after each epoch
        self.loggers = loggers(folder, step) if root else []
        self.held_out: dict[str, float] = {}

    def step(self, step: int, *values: float, facts: Mapping[str, float] = NOTHING) -> None:
        """After one step of the optimiser, or one run of a member; the bar shows the first of the values, and `facts`.

        `facts` are numbers of where the samples come from.
        """
        shown = {self.scalars[0].split("/")[-1]: values[0], **self.held_out, **facts}
        words = "  ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in shown.items())
        self.bar.reach(step, f"step {step}/{self.steps}  {words}")
        told = dict(zip(self.scalars, values, strict=True)) | {f"feed/{name}": value for name, value in facts.items()}
        for logger in self.loggers:
            logger.add(told, step)

    def epoch(self, step: int, history: list[dict[str, float]]) -> None:
        """After one epoch; its row is the last of `history`."""
        if not self.root:
            return
        row = history[-1]
        self.held_out = {key: row[key] for key in (LOSS,) if key in row}
        write_table(self.folder / "history.csv", {key: [float(r[key]) for r in history] for key in row})
        for logger in self.loggers:
            logger.add({f"epoch/{key}": value for key, value in row.items()}, step)
            logger.flush()
        if self.console is not None and not self.console.is_terminal:
            self.bar.done = step
            errors = "  ".join(f"{key} {value:.4g}" for key, value in row.items() if key not in ("epoch", "step"))
            left = f"{self.bar.seconds_left:.0f} s left"
            self.console.print(f"epoch {row['epoch']:.0f}  {errors}  {left}", highlight=False)

    def __enter__(self) -> Report:
        self.bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""
        self.bar.__exit__()
        for logger in self.loggers:
            logger.close()
