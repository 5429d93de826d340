"""What the figures read: tables and summary of a run folder, and the reference tables of its case."""

from __future__ import annotations

import csv
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from solver.errors import RunFolderError
from solver.files.reference_files import is_number, read_reference, read_text

Table = dict[str, np.ndarray]
LARGEST = 1e150  # of what an axis can show: its square, and the margins around it, are still numbers


@dataclass(frozen=True)
class Results:
    """A run folder and the reference data it is compared with; whatever is missing reads as None or empty.

    Parameters
    ----------
    run : run folder.
    reference : tables by role: "profiles", "spectra_x", "k_budget", "dissipation", "cavity_u", ...
    """

    run: Path
    reference: Mapping[str, Path]

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Contents of `summary.json`.

        Raises
        ------
        RunFolderError : the file is damaged.
        """
        path = self.run / "summary.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        except ValueError as error:
            raise RunFolderError(f"{path}: damaged ({error}): run the case again") from None
        return found if isinstance(found, dict) else {}

    @property
    def reynolds(self) -> float | None:
        """``1 / nu``, the Reynolds number of a flow whose velocity and length are one; None without a case."""
        path = self.run / "case.toml"
        if not path.is_file():
            return None
        return float(f"{1.0 / tomllib.loads(path.read_text(encoding='utf-8'))['flow']['nu']:.6g}")

    def table(self, name: str) -> Table | None:
        """Return the run's `<name>.csv`, or None when it is missing or has no rows."""
        return _read_if_any(self.run / f"{name}.csv")

    def reference_table(self, role: str) -> Table | None:
        """Return the reference table with this role, or None."""
        path = self.reference.get(role)
        return read_reference(path) if path is not None and path.is_file() else None

    @property
    def is_out_of_bounds(self) -> bool:
        """Whether a table of the run or of the reference holds values that no axis can show: infinite, or nearly."""
        files = [*self.run.glob("*.csv"), *(path for path in self.reference.values() if path.is_file())]
        columns = (column for path in files for column in read_table(path).values())
        return any(column.dtype.kind == "f" and bool((np.abs(column) > LARGEST).any()) for column in columns)

    def citation(self, role: str) -> str:
        """Return "Authors (year)" from the first comment line of a reference table, or "reference"."""
        first = read_text(self.reference[role]).partition("\n")[0]
        found = re.match(r"#\s*([^#:;()]{1,60}\(\d{4}\))", first)
        return found.group(1) if found else "reference"

    @cached_property
    def wall_units_per_length(self) -> float | None:
        """u_tau / nu [1/length] from the coordinates of `profiles.csv`; None for flows without wall units."""
        profiles = self.table("profiles")
        if profiles is None or not {"y", "y_plus"} <= profiles.keys():
            return None
        return float(profiles["y_plus"][-1] / profiles["y"][-1])


def read_table(path: Path) -> Table:
    """Return the columns of a CSV file by name: float64 (an empty cell is NaN), or text where no cell is a number.

    Lines that start with '#' are comments. A last line cut short by a killed run is dropped.

    Raises
    ------
    RunFolderError : a cell among numbers is none; the column is named.
    """
    lines = [line for line in read_text(path).splitlines() if line.strip() and not line.startswith("#")]
    try:
        rows = csv.reader(lines)
        names = [name.strip() for name in next(rows, [])]
        complete = [row for row in rows if len(row) == len(names)]
    except csv.Error as error:
        raise RunFolderError(f"{path}: damaged ({error}): remove it, or run the case again") from None
    return {name: _column(path, name, [row[i] for row in complete]) for i, name in enumerate(names)}


def half_width(table: Table, name: str) -> np.ndarray | None:
    """Return the 95 % half width of column `name`, or None when the table does not carry it."""
    return table.get(f"{name}_ci95")


def _read_if_any(path: Path) -> Table | None:
    table = read_table(path) if path.is_file() else {}
    return table if table and len(next(iter(table.values()))) else None


def _column(path: Path, name: str, cells: list[str]) -> np.ndarray:
    filled = [cell for cell in cells if cell.strip()]
    words = [cell for cell in filled if not is_number(cell)]
    if words and len(words) < len(filled):
        problem = f"column '{name}' has {words[0][:40]!r} among numbers"
        raise RunFolderError(f"{path}: damaged ({problem}): remove it, or run the case again")
    return np.array(cells) if words else np.array([float(cell) if cell.strip() else np.nan for cell in cells])
