"""``solver runs``, ``solver clean`` and ``solver watch``."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Annotated

import typer

from solver.errors import RunFolderError
from solver.terminal import console

DEAREST = ("run", "status", "t", "closure", "U %", "C_f %", "case", "against", "steps")
RUNS = Path("runs")


def runs(folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="a folder of runs, or a run")] = RUNS) -> None:
    """List the runs in a folder: case, closure, status, time reached, errors against the reference."""
    from solver.cli.columns import fitting
    from solver.cli.run_list import find

    if not folder.is_dir():
        raise RunFolderError(f"{folder}: no such folder: give one that holds runs")
    out = console()
    if found := find(folder):
        out.print(fitting([run.row() for run in found], DEAREST, out.width))
    else:
        out.print(f"{folder}: no runs in it")


def clean(
    folders: Annotated[list[Path] | None, typer.Argument(metavar="[FOLDER|RUN ...]", help="runs/ by default")] = None,
    everything: Annotated[bool, typer.Option("--all", help="in a folder of runs: not the worthless ones only")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> None:
    """Delete runs that diverged, died out, or ended before a checkpoint; or those named. Says what, then asks.

    Never a run at work, and of a folder only what the run has written there.
    """
    from solver.cli.cleaning import chosen, delete, size
    from solver.cli.run_list import products
    from solver.parallel import ranks

    if not ranks.is_root():
        return
    out, doomed = console(), chosen(folders or [RUNS], everything)
    if not doomed:
        out.print("nothing to delete")
        return
    total = 0
    for run in doomed:
        total += (taken := size(products(run.folder)))
        reached = f" at t = {run.time:.4g}" if math.isfinite(run.time) else ""
        out.print(f"{run.folder}: {run.status}{reached}, {_mib(taken)}")
    question = f"delete {len(doomed)} run{'s' if len(doomed) > 1 else ''}, {_mib(total)}?"
    if not yes and not sys.stdin.isatty():
        out.print(f"{question} Nothing is deleted without --yes")
        return
    if yes or typer.confirm(question):
        out.print(f"deleted {sum(delete(run) for run in doomed)} of {len(doomed)}")


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"


def watch(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="run folder")],
    once: Annotated[bool, typer.Option("--once", help="say how it stands, and end")] = False,
    every: Annotated[float, typer.Option(min=0.1, help="seconds between looks; lines are said at news only")] = 2.0,
) -> None:
    """Watch a run: residuals, friction, the profile so far against the reference, time left; ends when the run ends."""
    from solver.cli.dashboard import follow
    from solver.parallel import ranks

    if ranks.is_root():
        follow(folder, once, every, console())
