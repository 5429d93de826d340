"""The index of the decisions has each of them, by its number, once and in order."""

from __future__ import annotations

import re

from tests.runs import ROOT

FOLDER = ROOT / "docs/decisions"


def test_the_index_has_every_decision_once_and_in_order():
    """Whoever adds a decision adds a line to docs/decisions/README.md."""
    rows = re.findall(r"^\| \[(\d{4})\]\(([^)]*)\) \| (.*) \|$", (FOLDER / "README.md").read_text(), re.MULTILINE)
    there = sorted(page.name for page in FOLDER.glob("[0-9]*.md"))
    assert [page for _, page, _ in rows] == there
    for number, page, line in rows:
        assert page.startswith(number)
        assert len(line.split()) >= 4


def test_no_number_is_taken_twice():
    numbers = [page.name[:4] for page in FOLDER.glob("[0-9]*.md")]
    assert len(numbers) == len(set(numbers))
    for page in FOLDER.glob("[0-9]*.md"):
        assert re.match(rf"# {page.name[:4]}\b", page.read_text()), page.name
