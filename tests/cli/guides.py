"""The package of the guides of docs/, installed as far as the registries can tell; not a test itself."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer.main

from solver.case import plugins
from solver.cli import commands as command_line

ROOT = Path(__file__).parents[2]
GUIDES = sorted((ROOT / "docs").glob("add_a*.md"))
MODULE = re.compile(r'"""(my_\w+/\w+\.py)"""')


def blocks(page: Path, language: str) -> list[tuple[str, str]]:
    """The code blocks of a page: the comment in the line above, and the text."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(rf"(?:<!-- (.*?) -->\n)?```{language}\n(.*?)```", text, flags=re.DOTALL)
    return list(found)


def module(page: Path) -> str:
    """The one module of a guide."""
    ((_, code),) = blocks(page, "python")
    return code


def recipe(page: Path) -> dict:
    """The training recipe of a guide."""
    (found,) = (tomllib.loads(body) for note, body in blocks(page, "toml") if note == "a training recipe")
    return found


def commands() -> dict[str, set[str]]:
    """Every command of the command line, as one types it, with its options."""
    found: dict[str, set[str]] = {}

    def walk(words: str, command: Any) -> None:
        inner = getattr(command, "commands", {})
        if words and (not inner or command.invoke_without_command):
            found[words] = {o for p in command.params for o in p.opts}
        for name, below in inner.items():
            walk(f"{words} {name}".strip(), below)

    walk("", typer.main.get_command(command_line.build()))
    return found


def install(monkeypatch, folder: Path, pages: Sequence[Path] = GUIDES) -> None:
    """Every module of the pages, importable from `folder`, and their entry points."""
    declared: dict[str, dict[str, str]] = {}
    for page in pages:
        for _, code in blocks(page, "python"):
            if named := MODULE.match(code):
                path = folder / named[1]
                path.parent.mkdir(exist_ok=True)
                (path.parent / "__init__.py").touch()
                path.write_text(code)
        for note, body in blocks(page, "toml"):
            if note == "not a case":
                declared |= tomllib.loads(body)["project"]["entry-points"]
    monkeypatch.syspath_prepend(folder)
    made = {
        group: [importlib.metadata.EntryPoint(name, value, group) for name, value in points.items()]
        for group, points in declared.items()
    }
    monkeypatch.setattr(plugins, "entry_points", lambda group: made.get(group, []))
