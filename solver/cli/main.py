"""The command line's entry point.

Errors are one line with key, file and remedy. Exit codes: 0 finished, 2 bad input, 3 diverged or laminar,
130 interrupted, 1 a bug (with its traceback).
"""

from __future__ import annotations

import os
import sys
import time
import traceback

from solver.errors import SolverError

INTERRUPTED = 130


def main() -> None:
    """Entry point: one line for deliberate errors, every rank ends with the same code."""
    try:
        from solver.terminal import patient_streams

        with patient_streams():
            code = _run_command()
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)


def _run_command() -> int:
    try:
        limit_threads()
        from solver.cli.commands import build  # here, so that an interruption of imports is one like any other

        return int(build()(prog_name="solver", standalone_mode=False) or 0)  # the code of typer.Exit is returned
    except SolverError as error:
        return _fail(" ".join(str(error).splitlines()), error.exit_code)  # it may quote a key of several lines
    except OSError as error:
        where = f"{error.filename}: {error.strerror}" if error.filename else ""
        return _fail(where or str(error) or "input or output failed", 2)
    except Exception as error:
        if _is_out_of_memory(error):
            return _fail("out of memory: use a coarser grid, float32, or more ranks on more nodes", 2)
        usage = getattr(error, "format_message", None)  # typer's usage errors have no public base class
        if usage is None:
            return _fail(traceback.format_exc(), 1)
        command = getattr(getattr(error, "ctx", None), "command_path", "solver")
        return _fail(f"{usage()}; see `{command} --help`", 2) if usage() else 2  # without a message it was the help


def limit_threads() -> None:
    """One thread a rank unless the environment says more, also for the BLAS of numpy, which reads it when imported."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # two spinning teams on busy cores cost ten times


def _is_out_of_memory(error: Exception) -> bool:
    """By the type of the exception; torch has none for the memory of a CPU, but words of its own."""
    torch = sys.modules.get("torch")
    on_device = torch is not None and isinstance(error, torch.OutOfMemoryError)
    on_host = type(error) is RuntimeError and "DefaultCPUAllocator: can't allocate memory" in str(error)
    return isinstance(error, MemoryError) or on_device or on_host


def _fail(message: str, code: int) -> int:
    """Say what is wrong once, then end every rank, also those waiting in a collective call."""
    from solver.terminal import under_mpi

    if not ("solver.parallel.ranks" in sys.modules or under_mpi()):
        print(f"solver: {message}", file=sys.stderr, flush=True)
        return code
    from solver.parallel import ranks

    if not ranks.is_root():
        time.sleep(5.0)  # the root speaks first if it failed too
    print(f"solver: {message}", file=sys.stderr, flush=True)
    if ranks.world_size() > 1:
        ranks.abort(code)
    return code


if __name__ == "__main__":
    main()
