"""Tables of numbers that others wrote: any encoding, any order of rows, empty cells, repeated rows."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from solver.errors import CaseError
from solver.grid.axis import Array

COORDINATES = (
    "time",
    "t",
    "y_over_h",
    "z_over_h",
    "y_plus",
    "y",
    "x",
    "k_x_h",
    "k_z_h",
    "k",
)  # rows are sorted by these
UNKNOWN = ("", "nan", "na", "n/a", "-")  # cells without a number


def is_number(cell: str) -> bool:
    """Whether a cell of a table reads as a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def read_text(path: Path) -> str:
    """The text of a table in UTF-8 or UTF-16 (with or without byte order mark) or Latin-1; lines end as in Unix.

    Raises
    ------
    CaseError : it cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CaseError(f"{path}: cannot be read ({error.strerror}): add the file") from None
    marked = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    for encoding in ("utf-16" if marked else "utf-8-sig", "latin-1"):
        try:
            text = content.decode(encoding)
            break
        except UnicodeDecodeError:
            continue
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_reference(path: Path) -> dict[str, Array]:
    """The columns of a table of numbers by name, its rows sorted by those of `COORDINATES` that it has.

    Lines that start with ``#`` are comments and the first other line names the columns, separated by commas. An empty
    cell is NaN, an empty row nothing, a row that is there twice counts once.

    Raises
    ------
    CaseError : it cannot be read, a row has more or fewer cells than there are names, a cell is no number, a row lacks
        its coordinate, or two rows of the same coordinates differ.
    """
    rows = _numbered_rows(path)
    if len(rows) < 2:
        raise CaseError(f"{path}: no table of comma-separated columns (it has no rows): repair the file")
    names = _names(path, rows[0][1])
    values = [_numbers(path, line, names, cells) for line, cells in rows[1:]]
    table = np.array([row for row in values if not np.isnan(row).all()]).reshape(-1, len(names))
    keys = [i for name in COORDINATES for i, other in enumerate(names) if other == name]
    order = [*keys, *(i for i in range(len(names)) if i not in keys)]
    table = table[np.lexsort([table[:, i] for i in reversed(order)])]
    alike = table[1:] == table[:-1]
    alike |= np.isnan(table[1:]) & np.isnan(table[:-1])
    table = table[np.concatenate([[True], ~alike.all(axis=1)])]
    if keys:
        _check_coordinates(path, names, keys, table)
    return {name: table[:, i] for i, name in enumerate(names) if name}


def _numbered_rows(path: Path) -> list[tuple[int, list[str]]]:
    """Number and cells of every line that is neither empty nor a comment."""
    lines = enumerate(read_text(path).split("\n"), start=1)
    kept = [(n, line) for n, line in lines if line.strip() and not line.lstrip().startswith("#")]
    try:
        return [(n, [cell.strip() for cell in next(csv.reader(io.StringIO(line)))]) for n, line in kept]
    except csv.Error as error:
        raise CaseError(f"{path}: no table of comma-separated columns ({error}): repair the file") from None


def _names(path: Path, names: list[str]) -> list[str]:
    """The header, checked; a name may be empty where the column is."""
    problem = ""
    if len(names) == 1 and any(mark in names[0] for mark in ";\t "):
        problem = f"its columns are separated otherwise: '{names[0][:40]}'"
    elif any(is_number(name) for name in names):
        problem = "its first line without # should name the columns"
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        problem = f"two columns are called '{twice[0]}'"
    if problem:
        raise CaseError(f"{path}: no table of comma-separated columns ({problem}): repair the file")
    return names


def _numbers(path: Path, line: int, names: Sequence[str], cells: list[str]) -> list[float]:
    """The cells of one row; empty ones beyond the last name are left out."""
    while len(cells) > len(names) and not cells[-1]:
        cells.pop()
    if len(cells) != len(names):
        raise CaseError(f"{path}: line {line} has {len(cells)} cells for {len(names)} columns: repair the file")
    row = []
    for name, cell in zip(names, cells, strict=True):
        unknown = cell.lower() in UNKNOWN
        if not unknown and not (name and is_number(cell) and math.isfinite(float(cell))):
            where = f"column '{name}'" if name else "a column without name"
            raise CaseError(f"{path}: line {line}, {where}: '{cell[:40]}' is no number: repair the file")
        row.append(math.nan if unknown else float(cell))
    return row


def _check_coordinates(path: Path, names: Sequence[str], keys: list[int], table: Array) -> None:
    """Every row has its first coordinate, and no two rows the same ones."""
    if np.isnan(table[:, keys[0]]).any():
        raise CaseError(f"{path}: a row has no {names[keys[0]]}: fill the cell or leave the row out")
    same = np.flatnonzero((table[1:, keys] == table[:-1, keys]).all(axis=1))
    if same.size:
        where = ", ".join(f"{names[i]} = {table[same[0], i]:g}" for i in keys)
        raise CaseError(f"{path}: two rows have {where} and differ: leave one out")


def read_complete(path: Path, names: Sequence[str]) -> dict[str, Array]:
    """Those columns of a reference table that are asked for, without the rows that lack one of them.

    Raises
    ------
    CaseError : as `read_reference`; or a column is missing, or fewer than two rows have them all.
    """
    table = read_reference(path)
    missing = [name for name in names if name not in table]
    if missing:
        raise CaseError(f"{path}: lacks the column '{missing[0]}': add it (it has {', '.join(table)})")
    whole = np.all([np.isfinite(table[name]) for name in names], axis=0)
    if whole.sum() < 2:
        raise CaseError(f"{path}: fewer than two rows have numbers for {', '.join(names)}: fill the cells")
    return {name: table[name][whole] for name in names}
