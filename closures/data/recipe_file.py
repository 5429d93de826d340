"""Recipe files: where the shipped ones of data sets lie, and what one holds, of data or of a training."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from solver.case.overrides import apply_override
from solver.errors import CaseError

PACKAGE, ROOMS = Path(__file__).parents[1], ("data", "linear_families")


def shipped() -> dict[str, Path]:
    """The recipes of this package by name: flows, and families of linear systems."""
    return {file.stem: file for room in ROOMS for file in sorted((PACKAGE / room / "recipes").glob("*.toml"))}


def read(
    path: Path, overrides: Sequence[str] = (), known: Mapping[str, Path] | None = None
) -> tuple[dict[str, Any], str]:
    """What the file at `path` holds, or the shipped recipe of that name, and the name of the file.

    `overrides` replace keys, ``key.path=value``; `known` are the shipped recipes, those of data sets by default. A
    folder has no say: a set that was made here may have the name of its recipe.

    Raises
    ------
    CaseError : missing, unreadable or not TOML; one line.
    """
    known = shipped() if known is None else known
    file = path if path.is_file() else known.get(str(path), path)
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        near = difflib.get_close_matches(str(path.with_suffix("")), known, 1)
        hint = f"did you mean '{near[0]}'?" if near else f"give a TOML file, or one of {', '.join(known)}"
        raise CaseError(f"{path}: no such recipe; {hint}") from None
    except OSError as error:
        raise CaseError(f"{file}: cannot be read ({error.strerror}): give a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CaseError(f"{file}: not valid TOML: {error}") from None
    for override in overrides:
        apply_override(data, override)
    return data, str(file)
