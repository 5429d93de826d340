"""``--set key.path=value``: a key of a case or a recipe, from the command line."""

from __future__ import annotations

import tomllib
from typing import Any

from solver.errors import CaseError


def apply_override(data: dict[str, Any], override: str) -> None:
    """Set the key that ``key.path=value`` names in the tables `data`; the value is TOML, or else a word.

    Raises
    ------
    CaseError : it does not read so, or leads through a value.
    """
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise CaseError(f"--set {override}: should read key.path=value, for example --set grid.y.n=64")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    *parents, last = key.strip().split(".")
    for parent in parents:
        data = data.setdefault(parent, {})
        if not isinstance(data, dict):
            raise CaseError(f"--set {override}: '{parent}' is a value, not a table: nothing can follow it")
    data[last] = value
