"""The sources of both packages as syntax trees, without importing them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]

Definition = ast.ClassDef | ast.FunctionDef
FILES = sorted(path for package in ("solver", "closures") for path in (ROOT / package).rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    """Of one file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    """Its name in an import."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def public(path: Path) -> Iterator[tuple[str, Definition, Definition]]:
    """Public classes, functions and methods of a file: its name, itself, and who has its docstring.

    Of `__init__` that is the class.
    """
    for node in tree(path).body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield f"{name_of(path)}.{node.name}", node, node
            for part in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(part, ast.FunctionDef) and (not part.name.startswith("_") or part.name == "__init__"):
                    told = node if part.name == "__init__" else part
                    yield f"{name_of(path)}.{node.name}.{part.name}", part, told
