"""The command line's entry point.

Errors are one line with key, file and remedy. Exit codes: 0 finished, 2 bad input, 3 diverged or laminar,
130 interrupted, 1 a bug (with its traceback).
"""

from __future__ import annotations

import logging
import sys
import time
import traceback

from solver import commands, parallel
from solver.errors import SolverError
from solver.machine import prepare_process
from solver.terminal import log_to_terminal

app = commands.build()


def main() -> None:
    """Entry point: one line for deliberate errors, every rank ends with the same code."""
    sys.exit(_run_command())


def _run_command() -> int:
    log_to_terminal(logging.INFO)
    try:
        prepare_process()
        return int(app(standalone_mode=False) or 0)  # the code of typer.Exit is returned, not raised
    except SolverError as error:
        return _fail(str(error), error.exit_code)
    except OSError as error:
        return _fail(f"{error.filename or 'input or output'}: {error.strerror or error}", 2)
    except Exception as error:
        if isinstance(error, MemoryError) or "allocate" in str(error) or "out of memory" in str(error):
            return _fail("out of memory: use a coarser grid, float32, or more ranks on more nodes", 2)
        usage = getattr(error, "format_message", None)  # typer's usage errors have no public base class
        if usage is None:
            return _fail(traceback.format_exc(), 1)
        return _fail(f"{usage()}; see `solver --help`", 2) if usage() else 2  # without a message it was the help


def _fail(message: str, code: int) -> int:
    """Say what is wrong once, then end every rank, also those waiting in a collective call."""
    if not parallel.is_root():
        time.sleep(5.0)  # the root speaks first if it failed too
    print(f"solver: {message}", file=sys.stderr, flush=True)
    if parallel.world_size() > 1:
        parallel.abort(code)
    return code


if __name__ == "__main__":
    main()
