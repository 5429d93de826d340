"""What a message tells the user to set exists: every ``[table] key`` in the sources is in a schema."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import typing
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import closures
import solver
from tests.runs import ROOT

NAMED = re.compile(r"\[([a-z_]+(?:\.[a-z_{}]+)*)\](?: '?([a-z_]+)'? = )?")
NO_TABLES = {"arguments", "family"}  # of a card and of a family of equations, whose keys are those of a function
PARTS = {"uvwp"}  # a regular expression


def models(package: Any) -> Iterator[type[BaseModel]]:
    """Every table that a package declares."""
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not found.name.endswith("__main__"):
            module = importlib.import_module(found.name)
            yield from (v for v in vars(module).values() if isinstance(v, type) and issubclass(v, BaseModel))


def tables_of(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [table for part in typing.get_args(annotation) for table in tables_of(part)]


@pytest.fixture(scope="module")
def schema() -> dict[str, set[str]]:
    """Keys by the name of the table they may stand in; "*" where any key may."""
    keys: dict[str, set[str]] = defaultdict(set)
    for model in {*models(solver), *models(closures)}:
        for name, field in model.model_fields.items():
            for table in tables_of(field.annotation):
                keys[name] |= table.model_fields.keys() | (
                    {"*"} if table.model_config.get("extra") == "allow" else set()
                )
    return keys


def texts(file: Path) -> Iterator[str]:
    """The strings of a module without its docstrings; what is filled in later reads ``{}``."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    bodies = [n.body for n in ast.walk(tree) if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef)]
    skipped = {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}
    skipped |= {id(part) for n in ast.walk(tree) if isinstance(n, ast.JoinedStr) for part in n.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            yield node.value


def unknown(text: str, schema: dict[str, set[str]]) -> list[str]:
    """What a message names and no case file or recipe can hold."""
    found = []
    for path, key in NAMED.findall(text):
        table = path.split(".")[-1]
        if "{" in path or table in NO_TABLES | PARTS:
            continue
        keys = schema.get(table, set())
        inside = set().union(*(schema.get(name, set()) for name in keys))  # [grid] n is one of [grid.x]
        if not keys or (key and key not in keys | inside and "*" not in keys):
            found.append(f"[{path}] {key}".strip())
    return found


def test_every_key_in_a_message_is_in_a_schema(schema):
    files = [*(ROOT / "solver").rglob("*.py"), *(ROOT / "closures").rglob("*.py")]
    wrong = {
        str(file.relative_to(ROOT)): bad for file in files for text in texts(file) if (bad := unknown(text, schema))
    }
    assert not wrong


def test_the_search_finds_what_is_wrong(schema):
    assert unknown("set [grid.x] type = 'fourier'", schema) == ["[grid.x] type"]
    assert unknown("[boundary] 'periodic' on both ends", schema) == ["[boundary]"]
    assert not unknown("set [grid.x] kind = 'fourier', or raise [time] end", schema)
