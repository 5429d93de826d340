"""Reference tables: how they are read, what a channel is compared with, and the check before a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from solver.case import Case
from solver.errors import CaseError
from solver.grid import Grid
from solver.hooks.batch_means import Array

PROFILES = ("u_mean", "u_rms", "v_rms", "w_rms", "uv")


def read_reference(path: Path) -> dict[str, np.ndarray]:
    """Columns of a table: comment lines start with '#', the next names the columns, empty cells are NaN.

    Raises
    ------
    CaseError : it cannot be read, or its rows differ in length.
    """
    try:
        text = path.read_text(encoding="utf-8")
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        table = np.genfromtxt(lines, delimiter=",", names=True, dtype=float)
    except (OSError, ValueError, IndexError) as error:
        reason = str(error).partition("\n")[0]
        raise CaseError(f"{path}: no table of comma-separated columns ({reason}): repair the file") from None
    return {name: np.atleast_1d(table[name]) for name in table.dtype.names or ()}


@dataclass(frozen=True)
class ChannelReference:
    """A reference table ``y_over_h, y_plus, U_plus, uu_plus, vv_plus, ww_plus, uv_plus`` (wall units, half channel)."""

    table: dict[str, Array]

    @property
    def re_tau(self) -> float:
        """Friction Reynolds number."""
        return float(self.table["y_plus"][-1] / self.table["y_over_h"][-1])

    @property
    def bulk(self) -> float:
        """Bulk velocity in wall units."""
        return float(np.trapezoid(self.table["U_plus"], self.table["y_over_h"]) / self.table["y_over_h"][-1])

    @property
    def c_f(self) -> float:
        """Friction coefficient ``2 / U_b+^2``."""
        return 2 / self.bulk**2

    def profile(self, name: str, y_over_h: Array) -> Array:
        """One of `u_mean, u_rms, v_rms, w_rms, uv` at the given heights."""
        t = self.table
        columns = {"u_mean": t["U_plus"], "uv": t["uv_plus"]} | {f"{c}_rms": self._rms(c) for c in "uvw"}
        return np.interp(y_over_h, t["y_over_h"], columns[name])

    def _rms(self, c: str) -> Array:
        squared = f"{c}{c}_plus"
        return np.sqrt(self.table[squared]) if squared in self.table else self.table[f"{c}_rms_plus"]


def check_reference(case: Case, folder: Path, grid: Grid) -> None:
    """Read the reference profiles now: a table that cannot be used should not be found out after the run.

    Raises
    ------
    CaseError : no such table, or a column is missing.
    """
    reference = case.reference
    if reference is None or reference.profiles is None or not grid.is_channel:
        return
    target = ChannelReference(read_reference(folder / reference.profiles))
    try:
        for name in PROFILES:
            target.profile(name, np.zeros(1))
        _ = target.re_tau, target.bulk
    except (KeyError, ValueError, IndexError) as error:
        raise CaseError(f"[reference] profiles = '{reference.profiles}': lacks the column {error}") from None
