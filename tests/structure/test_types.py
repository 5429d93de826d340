"""mypy is strict; where it is told to look away, the kind of error and the reason stand there."""

from __future__ import annotations

import re
import tomllib

from tests.structure.sources import FILES, ROOT, name_of

TOLD = re.compile(r"# type: ignore\[[a-z-]+\]  # \S")


def test_mypy_is_strict():
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["strict"] is True


def test_what_is_not_checked_says_why():
    lines = [(name_of(path), line.strip()) for path in FILES for line in path.read_text().splitlines()]
    ignored = [(name, line) for name, line in lines if "# type: ignore" in line]
    assert ignored
    assert [(name, line) for name, line in ignored if not TOLD.search(line)] == []
