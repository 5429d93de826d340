"""Damaged and mistaken inputs of every kind: each must end in an answer or in one line, never in a traceback or a hang.

    python -m tests.fuzz --count 10000                    every kind in turn, from input 0 on
    python -m tests.fuzz --kinds case hdf5 --first 700 --count 1 --keep runs/fuzz
                                                          one input again; its files stay

An input is a function of its kind and number alone. `FOUND` are those that once broke something; the suite runs them,
and a few more (`tests/cli/test_fuzz.py`).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.damaged import KINDS
from tests.runs import ROOT, Ended

SEED = 60_221_407
CODES = (0, 2, 3, 130)
SECONDS, MEMORY = 30, 8 * 2**30  # of one input
FOUND: tuple[tuple[str, int], ...] = (
    *(("hdf5", n) for n in (6, 67, 13149, 50199, 70063, 91273, 140257)),
    *(("table", n) for n in (9, 60170, 72094, 100300, 100827, 121558)),
    *(("card", n) for n in (8032, 8100, 8263, 60232)),
    ("recipe", 1602),
    *(("case", n) for n in (40003, 150269)),
)


class Hang(BaseException):
    """An input took longer than `SECONDS`."""


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises `Hang` after so many seconds of the processor, which others may use as well."""

    def late(*_: object) -> None:
        raise Hang

    previous = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)


def attempt(kind: str, number: int, keep: Path | None = None) -> str:
    """What is wrong with how one input ends, nothing if that is right; `keep` receives its files."""
    rng = np.random.default_rng([SEED, list(KINDS).index(kind), number])
    folder = keep or Path(tempfile.mkdtemp(prefix="fuzz-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with limited(SECONDS), contextlib.redirect_stderr(io.StringIO()) as stray, np.errstate(all="ignore"):
            found = KINDS[kind](folder, rng)
    except Hang:
        return f"hangs for {SECONDS} s"
    except Exception as error:
        import traceback

        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}: {str(error)[:200]!r}"
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    return judged(Ended(found.code, found.out, found.err + stray.getvalue()))


def judged(found: Ended) -> str:
    """What is wrong with the end of a command."""
    lines = [line for line in found.err.split("\n") if line.strip()]
    if "Traceback" in found.err:
        return " | ".join(lines[-4:])[-400:]
    if found.code not in CODES:
        return f"exit code {found.code}"
    if found.code in (2, 3) and not lines:
        return f"exit code {found.code} without a word"
    strange = [line for line in lines if not line.startswith("solver: ")]
    return f"more than one line: {strange[0][:200]!r}" if strange else ""


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=120, help="inputs, shared among the kinds")
    parser.add_argument("--keep", type=Path, help="folder for the files of the inputs")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    each = -(-given.count // len(given.kinds))
    todo = [(kind, given.first + i) for i in range(each) for kind in given.kinds][: given.count]
    if given.worker:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        for kind, number in (json.loads(line) for line in sys.stdin):
            keep = given.keep / f"{kind}-{number}" if given.keep else None
            print(json.dumps(attempt(kind, number, keep)), flush=True)
        return
    bad = 0
    for done, (kind, number, verdict) in enumerate(supervised(todo, given.keep), 1):
        if done % 500 == 0:
            print(f"{done} of {len(todo)}", flush=True)
        if verdict:
            bad += 1
            print(f"{kind} {number}: {verdict}", flush=True)
    print(f"{len(todo)} inputs, {bad} of them ended wrongly")
    sys.exit(bool(bad))


def supervised(todo: list[tuple[str, int]], keep: Path | None) -> Iterator[tuple[str, int, str]]:
    """Verdicts of inputs tried in a process of their own, which may hang or die."""
    worker = None
    command = [sys.executable, "-m", "tests.fuzz", "--worker", *(["--keep", str(keep)] if keep else [])]
    for kind, number in todo:
        if worker is None:
            worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        worker.stdin.write(json.dumps([kind, number]) + "\n")
        worker.stdin.flush()
        ready, _, _ = select.select([worker.stdout], [], [], 8 * SECONDS)
        line = worker.stdout.readline() if ready else ""
        if line:
            yield kind, number, json.loads(line)
            continue
        worker.kill()
        yield kind, number, "hangs where no signal reaches it" if not ready else f"dies ({worker.wait()})"
        worker = None
    if worker is not None:
        worker.stdin.close()
        worker.wait()


if __name__ == "__main__":
    main()
