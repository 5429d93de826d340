"""What happens before and after every command, and only once it is known that one will run.

Commands import what they need when they are called: ``solver --help`` loads neither torch nor MPI.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable
from typing import Any

PLAIN: dict[str, Any] = {"rich_markup_mode": None}  # in rich help the names of tables, in brackets, would be markup


def prepared(command: Callable[..., None]) -> Callable[..., None]:
    """`command` in a process set up for it: threads, allocator, log to the terminal."""

    @functools.wraps(command)
    def call(*args: Any, **given: Any) -> None:
        from solver.run.machine import prepare_process
        from solver.terminal import log_to_terminal

        log_to_terminal(logging.INFO)
        prepare_process()
        command(*args, **given)

    return call


def resumable(command: Callable[..., None]) -> Callable[..., None]:
    """`command`, which says at an interruption that the same words go on from there."""

    @functools.wraps(command)
    def call(*args: Any, **given: Any) -> None:
        from solver.parallel import ranks

        try:
            command(*args, **given)
        except KeyboardInterrupt:
            if ranks.is_root():
                print("solver: interrupted; the same command goes on where it stopped", file=sys.stderr, flush=True)
            raise

    return call
