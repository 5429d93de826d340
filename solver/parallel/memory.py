"""What a machine has, asked before something large is begun: the system ends who takes more, without a word."""

from __future__ import annotations

import os

from solver.errors import CaseError
from solver.grid.grid import Grid

FIELDS = 30  # of a run without a closure, at the least
GIB = 2**30


def require(needed: float, what: str, remedy: str = "use fewer points, or more ranks on more nodes") -> None:
    """Raises CaseError if `needed` bytes, for `what`, are more than this machine has."""
    try:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):  # not a system that says so
        return
    if needed > there:
        raise CaseError(
            f"{what} needs {needed / GIB:.0f} GiB a rank or more, this machine has {there / GIB:.0f}: {remedy}"
        )


def require_for(grid: Grid, ranks: int, itemsize: int, flows: int = 1) -> None:
    """Raises CaseError if so many flows on this grid cannot fit: fields, and dense products along axes of cells."""
    nx, ny, nz = (axis.points for axis in grid.axes)  # as floats: their product may be any number
    dense = sum(2.0 * axis.points**2 for axis in grid.volume_axes.values())
    points = " x ".join(map(str, (nx, ny, nz)))
    require(itemsize * (FIELDS * float(nx) * ny * nz * flows / ranks + dense), f"[grid] {points} points")
