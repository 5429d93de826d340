"""``solver doctor``."""

from __future__ import annotations

from rich.table import Table

from solver import __version__
from solver.terminal import console


def doctor() -> None:
    """What this machine has: MPI, PETSc, GPU, threads, compiler."""
    from solver.run.machine import describe

    table = Table(show_header=False, title=f"les-solver {__version__}")
    for key, value in describe().items():
        table.add_row(key, value)
    console().print(table)
