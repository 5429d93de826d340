"""Sizes that the house keeps: what does not fit is two things."""

from __future__ import annotations

import ast

from tests.structure.sources import FILES, ROOT, name_of, tree

LINES = 300  # of a module; half of that is aimed at
FUNCTION = 60
ROOMS = {"solver": 15, "closures": 10}  # folders and modules directly in a package


def test_modules_are_short():
    assert {name_of(path): n for path in FILES if (n := len(path.read_text().splitlines())) > LINES} == {}


def test_functions_fit_a_screen():
    long = {}
    for path in FILES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef) and (n := node.end_lineno - node.lineno + 1) > FUNCTION:
                long[f"{name_of(path)}.{node.name}"] = n
    assert long == {}


def test_rooms_are_few():
    for package, most in ROOMS.items():
        inside = {path.relative_to(ROOT / package).parts[0] for path in FILES if path.is_relative_to(ROOT / package)}
        assert 5 < len({name for name in inside if not name.startswith("__")}) <= most
