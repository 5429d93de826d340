"""Examples in docstrings do what they say."""

from __future__ import annotations

import doctest
import re
from importlib import import_module

import pytest

from tests.structure.sources import FILES, name_of

EXAMPLE = re.compile(r"^ *>>> (?!.*\+SKIP)", re.MULTILINE)
EXAMPLES = [name_of(path) for path in FILES if EXAMPLE.search(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("module", EXAMPLES)
def test_examples(module, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(import_module(module), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.failed == 0
    assert found.attempted > 0
