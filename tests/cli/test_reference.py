"""The pages of reference are those that the tables and the commands make now."""

from __future__ import annotations

import importlib.util
import re

import solver
from closures.registry.schemas import schema_of
from tests.runs import ROOT

SPEC = importlib.util.spec_from_file_location("reference", ROOT / "scripts/reference.py")
reference = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(reference)


def test_pages_are_up_to_date():
    for name, text in reference.pages().items():
        assert (reference.INTO / name).read_text(encoding="utf-8") == text, f"{name}: python scripts/reference.py"


def test_every_case_and_public_name_has_its_section():
    """Those of the top levels are all that `__all__` names; a case without words of its own is not told."""
    cases = (reference.INTO / "cases.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\w+): ", cases, flags=re.MULTILINE) == list(reference.shipped_cases())
    assert {f"docs/images/{picture}.png" for picture, _ in reference.PICTURES.values()} <= {
        str(path.relative_to(ROOT)) for path in (ROOT / "docs/images").glob("*.png")
    }
    names = (reference.INTO / "python.md").read_text(encoding="utf-8")
    for name in solver.__all__:
        assert f"### `solver.{name}`" in names
    for section in re.findall(r"```text\n(.*?)```", names, flags=re.DOTALL):
        assert len(section.split()) > 5, section


def test_every_key_of_a_case_is_on_its_page():
    text = (reference.INTO / "case.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE))
    assert rows == {key for about in schema_of("case")["$defs"].values() for key in about["properties"]}
    assert "| `cfl` | number > 0, <= 1.7 | `1.2` | CFL number that dt keeps, unless `dt` is given |" in text
