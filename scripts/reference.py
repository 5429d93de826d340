"""The pages of reference, from what they are about: docs/reference/*.md.

    python scripts/reference.py            # write them; --check changes nothing and may fail

Keys come from the tables that check a file when it is loaded, by way of their JSON schema; commands from the command
line itself, cases from their files, names for Python from `__all__` and docstrings. So a page cannot forget a key, and
`tests/cli/test_reference.py` says when it is out of date.
"""

from __future__ import annotations

import argparse
import inspect
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import typer.main

from closures.compare import boxes, channels, layers
from closures.losses.registry import GIVEN, LOSSES
from closures.operators.registry import OPERATORS
from closures.registry import listing
from closures.registry.schemas import KINDS, schema_of
from solver.case.paths import shipped_cases
from solver.case.plugins import OURS, Registry
from solver.cli import commands

PUBLIC = ("solver", "closures.operators", "closures.coupling", "closures.compare", "solver.figures")
SHOWN = Path(__file__).with_name("gallery.toml")
INTO = Path(__file__).parents[1] / "docs" / "reference"
MADE = "<!-- made by scripts/reference.py: edit the tables or the commands, not this page -->\n"
ABOUT = {
    "case": "A case is a folder with a `case.toml`, which `solver run` takes, and the files that it names.",
    "data": "A recipe of `solver generate`: of filtered flows, on one grid or on several, or of linear problems.",
    "training": "A recipe of `solver train`. Its tables say of which kind it is.",
}
Entry = dict[str, Any]


class Page:
    """One page of keys: every table once, in the order in which a file has them."""

    def __init__(self, kind: str) -> None:
        self.kind, self.schema = kind, schema_of(kind, names=False)
        self.tables: dict[str, Entry] = self.schema["$defs"]
        self.told: dict[str, str] = {}  # headings by table

    def text(self) -> str:
        """The page in Markdown."""
        title = "Case" if self.kind == "case" else f"Recipes: {self.kind}"
        head = [f"# {title}: every key", "", ABOUT[self.kind], ""]
        head += ["A key without a default has to be given, unless it is optional; an unknown key is an error."]
        head += [f"Editors complete and check them by `solver schema {self.kind}`: see [editors](../editors.md).", ""]
        tops = self.schema.get("oneOf") or [self.schema]
        for top in tops:
            name = target(top)
            if len(tops) > 1:
                head += [f"## {self.tables[name]['description'].splitlines()[0].rstrip('.')}", ""]
            head += self.table(name, "", 2 if len(tops) > 1 else 1, heading=False)
        return MADE + "\n".join(head).rstrip() + "\n"

    def table(self, name: str, path: str, level: int, heading: bool = True, names: str = "") -> list[str]:
        """The section of a table at ``[path]``, and those of the tables in it."""
        about = self.tables[name]
        lines: list[str] = []
        if heading:
            self.told[name] = names
            lines += [f"{'#' * min(level, 6)} {names}", ""]
            lines += [without_name(about["description"]), ""]
        keys, inner = [], {}
        for key, entry in about.get("properties", {}).items():
            found = tuple(self.inside(entry))
            if found:
                inner.setdefault(found, []).append(key)
            required = key in about.get("required", ())
            keys.append(f"| `{key}` | {self.words(entry)} | {default(entry, required)} | {meaning(entry)} |")
        if keys:
            lines += ["| key | value | default | meaning |", "| :-- | :-- | :-- | :-- |", *keys, ""]
        if about.get("additionalProperties", True) is not False:
            lines += ["Every other key is handed on.", ""]
        for found, places in inner.items():
            lines += self.tables_at(found, [f"{path}.{key}" if path else key for key in places], level)
        return lines

    def tables_at(self, found: tuple[str, ...], paths: list[str], level: int) -> list[str]:
        """The sections of the tables that may stand at some places, those that were not told before."""
        where, lines = ", ".join(f"`[{path}]`" for path in paths), []
        for name in found:
            kind = self.tables[name].get("properties", {}).get("kind", {}).get("const")
            names = f"{where}{f' with kind = `{chr(34)}{kind}{chr(34)}`' if kind else ''}"
            if name not in self.told:
                lines += self.table(name, paths[0], level + (1 if level < 3 else 0), names=names)
            elif self.told[name] != names:
                lines += [f"{names}: as {self.told[name]}.", ""]
        return lines

    def inside(self, entry: Entry) -> Iterator[str]:
        """Names of the tables that an entry can be, in lists as well."""
        if "$ref" in entry:
            yield target(entry)
        for part in (*entry.get("anyOf", ()), *entry.get("oneOf", ()), *entry.get("allOf", ())):
            yield from self.inside(part)
        if isinstance(entry.get("items"), dict):
            yield from self.inside(entry["items"])

    def words(self, entry: Entry) -> str:
        """What may stand there."""
        if "const" in entry:
            return f"`{toml(entry['const'])}`"
        if "enum" in entry:
            return ", ".join(f"`{toml(value)}`" for value in entry["enum"])
        parts = entry.get("anyOf") or entry.get("oneOf")
        if parts:
            if any(part.get("description", "").startswith("a multiple of pi") for part in parts):
                return f"{self.words(parts[0])}, or a multiple of pi"
            return "; or ".join(dict.fromkeys(self.words(part) for part in parts))
        if "$ref" in entry:
            return "table"
        if entry.get("type") == "array":
            return self.list_in_words(entry)
        word = {"number": "number", "integer": "whole number", "boolean": "`true`, `false`", "object": "table"}
        return word.get(entry.get("type", ""), "text") + bounds(entry)

    def list_in_words(self, entry: Entry) -> str:
        """A list, of so many."""
        if "prefixItems" in entry:
            each = dict.fromkeys(self.words(item) for item in entry["prefixItems"])
            return f"list of {len(entry['prefixItems'])}: {' and '.join(each)}"
        return f"list of: {self.words(entry.get('items', {}))}"


def target(entry: Entry) -> str:
    """The name of the table that an entry refers to."""
    return entry["$ref"].rpartition("/")[2]


def bounds(entry: Entry) -> str:
    """Limits of a number."""
    signs = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
    known = [f"{sign} {entry[key]:g}" for key, sign in signs.items() if abs(entry.get(key, 1e12)) < 1e12]
    return f" {', '.join(known)}" if known else ""


def default(entry: Entry, required: bool) -> str:
    """What a key is when it is not given."""
    if required:
        return ""
    value = entry.get("default")
    return "optional" if value is None or isinstance(value, dict) else f"`{toml(value)}`"


def toml(value: Any) -> str:
    """A value as it stands in a file."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else f"{value}"


def meaning(entry: Entry) -> str:
    """What a key means, in one line."""
    return " ".join(entry.get("description", "").split()).replace("|", "\\|")


def without_name(description: str) -> str:
    """A description without the name of its table, which is the heading."""
    first, separator, rest = description.partition("`: ")
    text = rest if separator and first.startswith("`[") else description
    return text[:1].upper() + text[1:]


def command_page() -> str:
    """Every command with its arguments and options."""
    lines = ["# Commands", "", "Put `mpirun -n 4` before any of them; `solver COMMAND --help` says the same.", ""]

    def walk(words: str, command: Any) -> None:
        inner = getattr(command, "commands", {})
        if words and (not inner or command.invoke_without_command):
            lines.extend(told(words, command))
        for name, below in inner.items():
            walk(f"{words} {name}".strip(), below)

    walk("", typer.main.get_command(commands.build()))
    return MADE + "\n".join(lines).rstrip() + "\n"


def told(words: str, command: Any) -> list[str]:
    """The section of one command."""
    taken = [p for p in command.params if "--help" not in p.opts]
    arguments = [p for p in taken if p.param_type_name == "argument"]
    shown = " ".join(p.metavar or p.name.upper() for p in arguments)
    lines = [f"## `{f'solver {words} {shown}'.strip()}`", "", " ".join((command.help or "").split()), ""]
    rows = [f"| `{p.name.upper()}` | {p.help or ''} |" for p in arguments]
    rows += [
        f"| {', '.join(f'`{word}`' for word in (*p.opts, *p.secondary_opts))} | {p.help or ''} |"
        for p in taken
        if p not in arguments
    ]
    return [*lines, "| | |", "| :-- | :-- |", *rows, ""] if rows else lines


def case_page() -> str:
    """Every shipped case: what it is, and how to run it."""
    lines = [
        "# Cases",
        "",
        "Each runs by its name from any folder; `solver new FOLDER --from NAME` makes a copy to change.",
        "Most pictures are of runs cut short, of seconds of one core: they show what a case is, not what it is worth.",
        "For that see [what is measured](../results/README.md).",
        "",
    ]
    shown = tomllib.loads(SHOWN.read_text(encoding="utf-8"))
    for name, folder in shipped_cases().items():
        text = (folder / "case.toml").read_text(encoding="utf-8")
        grid = {axis: f"{table['n']}" for axis, table in tomllib.loads(text)["grid"].items()}
        about = [line.lstrip("# ") for line in text.partition("title")[0].splitlines() if line.startswith("#")]
        lines += [f"## {name}: {tomllib.loads(text)['title']}", "", " ".join(about).replace("|", "\\|"), ""]
        lines += [f"![{shown[name]['words']}](../images/cases/{name}.png)", "", *made_by(name, shown[name]), ""]
        lines += [f"`solver run {name}`: all of it, {' x '.join(grid.values())} modes and cells.", ""]
    return MADE.replace("tables or the commands", "cases") + "\n".join(lines).rstrip() + "\n"


def made_by(name: str, shown: Entry) -> list[str]:
    """What stands under a picture: the commands that make it."""
    sets = "".join(f" \\\n  --set {change}" for change in shown["set"])
    figure = "" if shown["figure"] == "vortices" else f" # {shown['figure']}.png"
    look = "view" if shown["figure"] == "vortices" else "plot"
    words = f"{shown['words']}, {'on fewer points and for a shorter time' if sets else 'of the whole case'}:"
    run = f"runs/{name}"
    return [words, "", "```sh", f"solver run {name}{sets} \\\n  --out {run}", f"solver {look} {run}{figure}", "```"]


def names_page() -> str:
    """Everything that a case or a recipe takes by name, without what other packages add."""
    about = "`solver closures` says the same of closures and wall models, and what other packages add."
    lines = ["# Names", "", f"What cases and recipes call by name. {about}", ""]
    for title, found in (
        ("Closures: `[closure] name`", listing.describe()),
        ("Wall models: `[wall_model] name`", listing.describe_wall_models()),
        ("Networks: `[operator] name`", listed(OPERATORS, 0)),
        ("Errors: `[loss] kind`", listed(LOSSES, GIVEN)),
    ):
        ours = {name: entry for name, entry in found.items() if entry.origin == OURS}
        rows = [
            f"| `{name}` | {entry.summary.replace('``', '`')} | {coded(entry.options)} |"
            for name, entry in ours.items()
        ]
        lines += [f"## {title}", "", "| | | options |", "| :-- | :-- | :-- |", *rows, ""]
    lines += ["## Metrics of `solver compare`", "", "| | flow | |", "| :-- | :-- | :-- |"]
    for metric in (m for room in (channels, boxes, layers) for m in room.METRICS):
        lines.append(f"| `{metric.name}` | {metric.flow} | {metric.meaning} |")
    return MADE.replace("the tables or the commands", "docstrings") + "\n".join(lines) + "\n"


def listed(known: Registry, given: int) -> dict[str, listing.Listed]:
    """This package's things of one kind; the first `given` arguments are no options."""
    found = {}
    for name in known.own:
        made = known.load(name)
        options = list(inspect.signature(made).parameters.values())[given:]
        plain = (p.name if p.default in (p.empty, None, ()) else f"{p.name} = {toml(p.default)}" for p in options)
        found[name] = listing.Listed(OURS, (inspect.getdoc(made) or "").splitlines()[0], tuple(plain))
    return found


def coded(options: tuple[str, ...]) -> str:
    """Options of a thing, as code."""
    return ", ".join(f"`{option.replace(chr(39), chr(34))}`" for option in options)


def python_page() -> str:
    """Every public name, with its signature and its docstring as it stands."""
    begin = "Begin with `solver.simulation` and `solver.open_run`; [a notebook](../from_python.ipynb) steps a flow."
    lines = ["# From Python", "", begin, ""]
    for module in map(import_module, PUBLIC):
        lines += [f"## `{module.__name__}`", "", inspect.cleandoc(module.__doc__ or "").replace("``", "`"), ""]
        for name in module.__all__:
            lines += name_told(module.__name__, name, getattr(module, name))
    return MADE.replace("tables or the commands", "docstrings") + "\n".join(lines).rstrip() + "\n"


def name_told(module: str, name: str, found: Any) -> list[str]:
    """The section of one public name; of a class also what it can do."""
    if not (inspect.isclass(found) or inspect.isroutine(found)):
        return [f"### `{module}.{name}`", "", f"`{type(found).__name__}`", ""]
    is_error = inspect.isclass(found) and issubclass(found, Exception)
    signature = "" if is_error else str(inspect.signature(found)).replace("'", "")
    lines = [
        f"### `{module}.{name}`",
        "",
        "```text",
        f"{name}{signature}",
        "",
        *inspect.cleandoc(found.__doc__ or "").splitlines(),
    ]
    for part, value in vars(found).items() if inspect.isclass(found) else ():
        text = getattr(value, "__doc__", None)
        if not part.startswith("_") and (callable(value) or isinstance(value, (property, classmethod))) and text:
            lines += ["", f".{part}: {inspect.cleandoc(text).splitlines()[0]}"]
    return [*lines, "```", ""]


def pages() -> dict[str, str]:
    """Every page by the name of its file."""
    made = {
        "commands.md": command_page(),
        "cases.md": case_page(),
        "python.md": python_page(),
        "names.md": names_page(),
    }
    return {f"{kind}.md": Page(kind).text() for kind in KINDS} | made


def main() -> int:
    """Write the pages, or say which are out of date."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; fail if a page is out of date")
    check = parser.parse_args().check
    INTO.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        path = INTO / name
        if check and (not path.exists() or path.read_text(encoding="utf-8") != text):
            print(f"{path} is out of date: python scripts/reference.py", file=sys.stderr)
            return 1
        if not check:
            path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
