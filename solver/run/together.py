"""``python -m solver.run.together``: runs whose flows differ in their states alone, in one process, on one rank.

Reads JSON, for each run ``[case, closure, overrides, folder]``, and makes or goes on with each as ``solver run --out
FOLDER --restart auto --quiet`` would; writes a line, folder, tab and reason, for each that failed.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

from solver.errors import SolverError
from solver.run import leg
from solver.run.build import source_of
from solver.run.machine import prepare_process
from solver.run.run import StopSignal, run
from solver.run.wishes import together
from solver.terminal import console, log_to_terminal


def main() -> int:
    """All of them; 0 unless one failed."""
    log_to_terminal(logging.ERROR)
    prepare_process()
    given, failed = json.load(sys.stdin), 0
    with StopSignal() as stop:
        runs = [
            run(source_of(Path(case), sets, closure), Path(out), None, leg.AUTO, True, console(), stop=stop)
            for case, closure, sets, out in given
        ]
        for (*_, out), end in zip(given, together(runs), strict=True):
            if isinstance(end, SolverError):
                failed = 1
                print(f"{out}\t{end}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
