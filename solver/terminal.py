"""What the user sees: one console and one log, both on the root alone, on terminals of any kind and on none.

Only a terminal that is ours gets colours, bars and wrapped lines; a pipe, a file, or what a launcher of MPI takes for
a terminal gets plain lines as long as they are.
"""

from __future__ import annotations

import codecs
import logging
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

log = logging.getLogger("solver")
record = logging.getLogger("solver.record")  # for a run's ``log.txt``, not for the screen
record.setLevel(logging.INFO)
LAUNCHERS = ("OMPI_COMM_WORLD_SIZE", "PMI_RANK", "PMIX_RANK", "MPI_LOCALRANKID")
WIDE = 400  # columns where nobody wraps lines
REFRESH_SECONDS = 0.5  # between two pictures of a bar
ASCII = {"\u00b1": "+-", "\u00d7": "x", "\u25b2": "^", "\u25bc": "v", "\u2026": "...", "\u00b7": "."}


def under_mpi() -> bool:
    """Whether a launcher of MPI started this process; it may give the root a terminal of its own."""
    return any(name in os.environ for name in LAUNCHERS)


def console(quiet: bool = False) -> Console:
    """The root's console; other ranks stay quiet. Brackets in messages are the names of tables, not markup."""
    from solver.parallel import ranks

    found = Console(
        quiet=quiet or not ranks.is_root(),
        soft_wrap=True,
        markup=False,
        highlight=False,
        force_terminal=False if under_mpi() else None,
    )
    if not found.is_terminal:
        found.width = WIDE
    return found


def log_to_terminal(level: int) -> None:
    """Log messages from `level` on go to standard error, from the root alone; a run's ``log.txt`` gets them all."""
    from solver.parallel import ranks

    terminal = logging.StreamHandler(sys.stderr)
    terminal.setLevel(level)
    terminal.addFilter(lambda said: said.name != record.name)
    terminal.setFormatter(logging.Formatter("solver: %(message)s"))
    log.handlers[:] = [terminal]
    log.setLevel(logging.INFO if ranks.is_root() else logging.CRITICAL)


class Bar:
    """A bar with the time left on a terminal, elsewhere a line each tenth; a context manager.

    Parameters
    ----------
    total, done : what there is to do, and how much of it was done before, in any unit.
    console : where it is shown; None, or one that is quiet: nowhere.
    lines : whether there is a line each tenth where no bar can be.
    """

    def __init__(self, total: float, done: float = 0.0, console: Console | None = None, lines: bool = True) -> None:
        self.total, self.already, self.done = total, done, done
        self.console, self.started, self.tenth = console, time.monotonic(), int(10 * done / total)
        self.lines = lines and console is not None and not console.quiet and not console.is_terminal
        columns = (BarColumn(bar_width=None), TaskProgressColumn(), TextColumn("{task.description}"))
        shown = console is not None and console.is_terminal and not console.quiet
        self._bar = Progress(
            *columns,
            TimeRemainingColumn(compact=True),
            console=console,
            disable=not shown,
            expand=True,
            auto_refresh=False,
        )
        self._task = self._bar.add_task("", total=total)
        self._bar.update(self._task, completed=done)
        self._painted = 0.0

    @property
    def rate(self) -> float:
        """What was done in a second, since it began."""
        return max(self.done - self.already, 0.0) / max(time.monotonic() - self.started, 1e-9)

    @property
    def seconds_left(self) -> float:
        """At that rate; infinite before anything is done."""
        left = self.total - self.done
        return left / self.rate if self.rate > 0 else math.inf if left > 0 else 0.0

    def reach(self, done: float, detail: str = "") -> None:
        """So much is done now; `detail` says it in words."""
        self.done, now = done, time.monotonic()
        if done >= self.total or now - self._painted >= REFRESH_SECONDS:
            self._painted = now
            self._bar.update(self._task, completed=done, description=detail, refresh=True)
        tenth = int(10 * done / self.total * (1 + 1e-12))
        if self.lines and tenth > self.tenth:
            self.tenth = tenth
            left = f"{self.seconds_left:.0f} s left" if self.rate > 0 else ""
            assert self.console is not None
            self.console.print(f"{10 * tenth:3d} %  {detail}  {left}", highlight=False)

    def __enter__(self) -> Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""
        self._bar.update(self._task, completed=self.done)
        self._bar.stop()


class PatientStream:
    """A text stream that goes on in silence when its reader has gone: nobody's run ends for want of listeners."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="solver_ascii")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, or not."""
        try:
            written: int = self._stream.write(text)
            return written
        except OSError:
            return self._let_go(len(text))

    def flush(self) -> None:
        """Flush, or not."""
        try:
            self._stream.flush()
        except OSError:
            self._let_go(0)

    def _let_go(self, written: int) -> int:
        """Send what is still to come, also what Python flushes at its end, to nowhere."""
        with suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        return written


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    """What a terminal that knows no more than ASCII shows instead."""
    assert isinstance(error, UnicodeEncodeError)
    return "".join(ASCII.get(letter, "?") for letter in error.object[error.start : error.end]), error.end


@contextmanager
def patient_streams() -> Iterator[None]:
    """Standard output and error that no reader and no alphabet can break."""
    codecs.register_error("solver_ascii", _in_ascii)
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = PatientStream(sys.stdout), PatientStream(sys.stderr)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before
