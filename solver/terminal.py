"""What the user sees: one console and one log, both on the root alone."""

from __future__ import annotations

import logging
import sys

from rich.console import Console

from solver import parallel

log = logging.getLogger("solver")


def console() -> Console:
    """The root's console; other ranks stay quiet."""
    return Console(quiet=not parallel.is_root(), soft_wrap=True)


def log_to_terminal(level: int) -> None:
    """Log messages from `level` on go to standard error, from the root alone; a run's ``log.txt`` gets them all."""
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setLevel(level)
    terminal.setFormatter(logging.Formatter("solver: %(message)s"))
    log.handlers[:] = [terminal]
    log.setLevel(logging.INFO if parallel.is_root() else logging.CRITICAL)
