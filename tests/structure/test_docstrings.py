"""Docstrings have one dialect, numpydoc's sections with an entry a line, and say what the code does.

That every public name has one is ruff's rule D1. What the sections are is in docs/decisions/0049-docstrings.md.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.structure.sources import FILES, Definition, name_of, public, tree

SECTIONS = ["Parameters", "Attributes", "Returns", "Yields", "Raises", "Notes", "References", "Examples"]
LISTS = ("Parameters", "Attributes", "Returns", "Yields", "Raises")
NAME = r"[*`]*[A-Za-z_][\w.]*(?:\[.*?\])?`*"
ENTRY = re.compile(rf"({NAME}(?:(?:, | \| ){NAME})*) : \S.*")
COMMANDS = "solver.cli."  # their docstrings are the help of a command, their errors its exit code


def sections(docstring: str) -> dict[str, list[str]]:
    """Lines of each section, without the rule below its title."""
    found: dict[str, list[str]] = {}
    lines = [*docstring.splitlines(), ""]
    title = ""
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if re.fullmatch("-{3,}", below) and line:
            title = line
            assert title not in found, f"section {title} twice"
            found[title] = []
        elif title and not re.fullmatch("-{3,}", line):
            found[title].append(line)
    return found


def entries(lines: list[str]) -> list[str]:
    """Those that are not continued."""
    return [line for line in lines if line and not line.startswith(" ")]


def documented() -> Iterator[tuple[str, str]]:
    for path in FILES:
        for node in ast.walk(tree(path)):
            if isinstance(node, Definition) and (text := ast.get_docstring(node)):
                yield f"{name_of(path)}.{node.name}", text


def arguments(node: Definition) -> set[str]:
    """What may be given to a function, or to a class when it is made."""
    if isinstance(node, ast.ClassDef):
        fields = {
            part.target.id for part in node.body if isinstance(part, ast.AnnAssign) and hasattr(part.target, "id")
        }
        made = [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"]
        return fields.union(*map(arguments, made))
    a = node.args
    return {arg.arg for arg in (*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg)))}


def raised(node: ast.AST) -> Iterator[str]:
    """Classes of the errors that a function raises itself, not by a function within it."""
    for part in ast.iter_child_nodes(node):
        if isinstance(part, ast.Raise) and isinstance(part.exc, ast.Call) and isinstance(part.exc.func, ast.Name):
            yield part.exc.func.id
        if not isinstance(part, Definition | ast.Lambda):
            yield from raised(part)


def errors() -> set[str]:
    """Names of what a user is told in one line."""
    found = {"SolverError"}
    classes = [node for path in FILES for node in tree(path).body if isinstance(node, ast.ClassDef)]
    while more := {c.name for c in classes if {getattr(b, "id", "") for b in c.bases} & found} - found:
        found |= more
    return found


def test_sections_are_numpydocs_and_in_its_order():
    wrong = []
    for name, text in documented():
        titles = list(sections(text))
        if titles != sorted(titles, key=SECTIONS.index if set(titles) <= set(SECTIONS) else str):
            wrong.append((name, titles))
    assert not wrong


def test_an_entry_is_a_line():
    """``name : meaning``: types are in the signature, so what follows the colon says shape, unit and sense."""
    wrong = []
    for name, text in documented():
        found = sections(text)
        wrong += [
            (name, line) for title in LISTS for line in entries(found.get(title, [])) if not ENTRY.fullmatch(line)
        ]
    assert not wrong


def test_parameters_are_those_of_the_signature():
    wrong, seen = [], 0
    for path in FILES:
        for name, node, _ in public(path):
            for line in entries(sections(ast.get_docstring(node) or "").get("Parameters", [])):
                named = [part.strip("*` ") for part in line.split(" : ")[0].split(", ")]
                wrong += [(name, one) for one in named if one not in arguments(node)]
                seen += len(named)
    assert not wrong
    assert seen > 500


def test_errors_that_a_user_meets_are_named():
    """An error that a public function raises itself is in its docstring, or that of its class."""
    missing, seen, told = [], 0, errors()
    for path in FILES:
        for name, node, where in public(path):
            if isinstance(node, ast.FunctionDef) and not name.startswith(COMMANDS):
                found = set(raised(node)) & told
                text = ast.get_docstring(where) or ""
                missing += [(name, error) for error in sorted(found) if error not in text and "SolverError" not in text]
                seen += len(found)
    assert not missing
    assert seen > 100


@pytest.mark.parametrize("line", ["case", "case : ", "  x : deeper", "a / b : of both"])
def test_what_is_no_entry_is_seen(line):
    assert not ENTRY.fullmatch(line)
