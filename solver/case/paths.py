"""Where the files lie that a case or a recipe names: one rule for all.

Beside the case or recipe; else in the working directory; a case also in ``cases/``, there or among those that come
with this package, so that its name is enough.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[1]


def shipped_cases() -> dict[str, Path]:
    """Folders of the cases that come with this package, by name."""
    return {file.parent.name: file.parent for file in sorted(PACKAGE.glob("cases/*/case.toml"))}


def beside(data: dict[str, Any], keys: Collection[str], folder: Path) -> None:
    """Write out in full, in the tables of `data`, the paths at `keys` that lie in `folder`; others stay as they are."""
    for key, value in data.items():
        for table in value if isinstance(value, list) else [value]:
            if isinstance(table, dict):
                beside(table, keys, folder)
        if isinstance(value, dict | list):
            continue
        if key in keys and isinstance(value, str) and value and _there(folder / value):
            data[key] = str((folder / value).resolve())


def _there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # no name that a file could have
        return False


def case_path(path: Path) -> Path:
    """A case as it was given, or where one of that name is; what is nowhere comes back as it was.

    A folder without a case, as of runs, does not hide the case whose name it has.
    """
    if path.is_absolute() or _there(path / "case.toml") or (_there(path) and not path.is_dir()):
        return path
    places = (Path("cases") / path, PACKAGE / path, PACKAGE / "cases" / path)
    return next((place for place in places if _there(place / "case.toml")), path)
