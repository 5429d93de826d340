"""What is kept of a run that ends by an error that nobody foresaw."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from solver.parallel.slabs import Slabs
from solver.terminal import record

PATIENCE_SECONDS = 5.0  # ranks that fail together are that close
POLL_SECONDS = 0.01


@contextlib.contextmanager
def kept(slabs: Slabs, folder: Path, write: Callable[[], object]) -> Iterator[None]:
    """An error passes on; `write` (collective) keeps what there is before, if all ranks have met the same.

    If they have not, the others wait in a collective call for the one that failed, and nothing can be done together:
    they are asked on a communicator of their own, where nothing else is on its way. A folder that has a summary keeps
    that: it is of what was finished before.
    """
    own = slabs.comm.Dup() if slabs.size > 1 else None
    try:
        yield
    except Exception as error:
        if own is None or _met_by_all(own, type(error).__name__):
            try:
                if not slabs.broadcast((folder / "summary.json").exists()):
                    write()
            except Exception as another:
                record.error("the summary could not be written: %s", str(another).partition("\n")[0])
        raise
    if own is not None:
        own.Free()


def _met_by_all(comm: Any, kind: str) -> bool:
    """Whether every rank comes here soon, with an error of the same `kind`."""
    request, deadline = comm.Ibarrier(), time.monotonic() + PATIENCE_SECONDS
    while not request.Test():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return len(set(comm.allgather(kind))) == 1
