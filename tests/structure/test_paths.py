"""Modules, names and files that pages, comments and messages name are there: reading, nothing is imported."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.structure.sources import ROOT, Definition, tree

PLACES = ("solver", "closures", "tests", "scripts", "bench", "docs", "cases", "packaging")
PAGES = (".md", ".toml", ".yml", ".cff", ".ipynb", ".sh", ".html")
DOTTED = re.compile(r"(?<![\w./-])(?:solver|closures|tests|scripts|bench)(?:\.[A-Za-z_]\w*)+")
FILE = re.compile(rf"(?<![\w./<>*{{-])(?:{'|'.join(PLACES)})/[\w./-]*\w(?![\w*{{<])")
IN_A_MODULE = re.compile(r"`([a-z_]+)\.([A-Za-z_]\w*)(?:\(\))?`")
SUFFIXES = ("csv", "h5", "html", "json", "md", "png", "py", "toml", "txt", "xdmf")
GROUPS = {f"solver.{kind}" for kind in ("closures", "wall_models", "operators", "losses", "datasets", "metrics")}
OTHER = {  # what looks like one of ours and is none
    *GROUPS,
    "solver.record",  # a logger
    "closures.coupling.WholeField",  # an old name, of which the message tells the new one
    "tests.walls",  # entry points in tests
    "solver/iterations",  # in files of linear systems
    "solver/residual",
    "cases/my_channel",  # what a reader may make
    "solver/cases/NAME",
    "bench/batch.json",  # what a script may write
    "bench/gpu.json",
    "docs/results/grids",
    "closures/test_contract.py",  # below tests/, see docs/theory.md
}


@cache
def files() -> frozenset[str]:
    """What is committed, or will be; and the folders of that."""
    told = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if told.returncode:
        pytest.skip("not a checkout")
    found = [Path(line) for line in told.stdout.splitlines()]
    return frozenset(str(path) for file in found for path in (file, *file.parents) if (ROOT / path).exists())


def words(path: Path) -> Iterator[str]:
    """Lines of a page; of a module comments and strings."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from text.splitlines()
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", None)):
            yield from token.string.splitlines()


@cache
def read() -> list[tuple[str, str]]:
    """File and line of everything that is committed."""
    found = []
    for name in sorted(files()):
        path = ROOT / name
        is_read = path.suffix in (".py", *PAGES) or name in ("Makefile", "MANIFEST.in")
        if is_read and path.is_file() and not path.is_symlink() and path != Path(__file__):
            found += [(name, line) for line in words(path)]
    return found


def named(node: ast.AST) -> set[str]:
    """What a module or a class defines: functions, classes, variables, what it imports, attributes it sets."""
    found = set()
    for part in ast.walk(node):
        if isinstance(part, Definition):
            found.add(part.name)
        elif isinstance(part, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in part.names}
        elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            found.add(part.id)
        elif isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store):
            found.add(part.attr)
    return found


@cache
def names_in(module: str) -> frozenset[str]:
    """Of a module by its file."""
    return frozenset(named(tree(ROOT / module)))


def module_file(parts: list[str]) -> str | None:
    """The file of a module or a package; an empty string for a folder that is neither."""
    stem = "/".join(parts)
    return next((f for f in (f"{stem}.py", f"{stem}/__init__.py") if f in files()), "" if stem in files() else None)


def exists(dotted: str) -> bool:
    """Whether a dotted path names a module, or what is defined in one."""
    parts = dotted.split(".")
    count = next(n for n in range(len(parts), -1, -1) if n == 0 or module_file(parts[:n]) is not None)
    rest = parts[count:]
    return not rest or bool(count and (file := module_file(parts[:count])) and rest[0] in names_in(file))


def test_modules_and_their_names():
    found = [(name, one) for name, line in read() for one in DOTTED.findall(line)]
    ours = [(n, one) for n, one in found if one not in OTHER and one.split(".")[-1] not in SUFFIXES and "__" not in one]
    assert len(ours) > 200
    assert [(name, one) for name, one in ours if not exists(one)] == []


def test_files():
    found = [(name, one) for name, line in read() for one in FILE.findall(line) if not name.startswith("tests/")]
    decisions = {path[:19] for path in files() if path.startswith("docs/decisions/0")}
    missing = [(n, one) for n, one in found if one not in files() and one not in OTHER and one not in decisions]
    assert len(found) > 100
    assert missing == []


def test_names_in_a_module_that_is_told_by_its_last_part():
    """`metrics.Metric`: some module of that name has it; where no module has the name it is something else."""
    modules: dict[str, list[str]] = {}
    for file in files():
        if file.startswith(("solver/", "closures/")) and file.endswith(".py"):
            modules.setdefault(Path(file).stem, []).append(file)
    found = [
        (name, pair)
        for name, line in read()
        for pair in IN_A_MODULE.findall(line)
        if pair[0] in modules and pair[0] not in ("solver", "closures", "table") and pair[1] not in SUFFIXES
    ]
    assert len(found) > 10
    assert [(n, (m, one)) for n, (m, one) in found if not any(one in names_in(file) for file in modules[m])] == []


@pytest.mark.parametrize("dotted", ["solver.momentum", "closures.compare.metrics.Absent", "solver.flow.flow.Absent.x"])
def test_what_is_gone_is_seen(dotted):
    assert not exists(dotted)
    assert DOTTED.fullmatch(dotted)
