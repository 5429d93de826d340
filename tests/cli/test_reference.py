"""The pages of reference are those that the tables and the commands make now."""

from __future__ import annotations

import importlib
import importlib.util
import re
import tomllib

import pytest

from closures.algebraic.wall_friction import LAWS
from closures.compare.metrics import METRICS
from closures.losses.registry import LOSSES
from closures.operators.registry import OPERATORS
from closures.operators.shipped import shipped
from closures.registry import registry
from closures.registry.schemas import KINDS, schema_of
from solver.case.case import load_case
from tests.cli.guides import commands
from tests.runs import ROOT

SPEC = importlib.util.spec_from_file_location("reference", ROOT / "scripts/reference.py")
reference = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(reference)


def test_pages_are_up_to_date():
    for name, text in reference.pages().items():
        assert (reference.INTO / name).read_text(encoding="utf-8") == text, f"{name}: python scripts/reference.py"


def test_every_case_is_in_the_gallery():
    """With a picture of its own, small, and the commands that made it, whose keys a case takes."""
    cases = (reference.INTO / "cases.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\w+): ", cases, flags=re.MULTILINE) == list(reference.shipped_cases())
    table = tomllib.loads(reference.SHOWN.read_text(encoding="utf-8"))
    assert table.keys() == reference.shipped_cases().keys()
    pictures = {path.stem: path.stat().st_size for path in (ROOT / "docs/images/cases").iterdir()}
    assert pictures.keys() == table.keys()
    assert max(pictures.values()) <= 60_000
    for name, shown in table.items():
        load_case(reference.shipped_cases()[name], shown["set"])


def test_every_public_name_has_its_section():
    """Those that `__all__` of any package names; none without words of its own."""
    names = (reference.INTO / "python.md").read_text(encoding="utf-8")
    public = [
        str(file.parent.relative_to(ROOT)).replace("/", ".")
        for room in ("solver", "closures")
        for file in (ROOT / room).rglob("__init__.py")
        if "__all__" in file.read_text(encoding="utf-8")
    ]
    assert sorted(public) == sorted(reference.PUBLIC)
    for module in map(importlib.import_module, public):
        for name in module.__all__:
            assert f"### `{module.__name__}.{name}`" in names
    for section in re.findall(r"```text\n(.*?)```", names, flags=re.DOTALL):
        assert len(section.split()) > 5, section


def test_everything_called_by_name_is_on_the_page_of_names():
    text = (reference.INTO / "names.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE))
    closures = {*registry.BUILT_IN, *shipped(), registry.NONE}
    assert rows >= closures | LAWS.keys() | OPERATORS.own.keys() | LOSSES.own.keys() | set(METRICS.reserved())


def test_every_command_and_option_is_on_its_page():
    text = (reference.INTO / "commands.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## `solver ([^`]*)`\n(.*?)(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL))
    known = commands()
    told = {
        heading: next((c for c in sorted(known, key=len)[::-1] if f"{heading} ".startswith(f"{c} ")), None)
        for heading in sections
    }
    assert sorted(told.values()) == sorted(known)
    for heading, command in told.items():
        for option in known[command] - {"--help"}:
            assert f"`{option if option.startswith('-') else option.upper()}`" in sections[heading], (command, option)


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_is_on_its_page(kind):
    text = (reference.INTO / f"{kind}.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE))
    tables = schema_of(kind, names=False)["$defs"].values()
    assert rows == {key for about in tables for key in about.get("properties", ())}
    if kind == "case":
        assert "| `cfl` | number > 0, <= 1.7 | `1.2` | CFL number that dt keeps, unless `dt` is given |" in text
