"""JSON schemas of cases and recipes, from the tables that check them: for editors, and for the pages of reference.

What a table means is in its docstring; what a key means, in the description of its field, or in a section
``Parameters`` of that docstring.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema
from pydantic_core import core_schema

DIALECT = "https://json-schema.org/draft/2020-12/schema"
PARAMETERS = re.compile(r"\n\s*Parameters\n\s*-+\n(.*?)(?=\n\n|\Z)", re.DOTALL)
ENTRY = re.compile(r"^(\w+(?:, \w+)*) : (.*(?:\n[ \t]+.*)*)", re.MULTILINE)
Schema = dict[str, Any]
Models = Sequence[type[BaseModel]]
Known = Mapping[tuple[str, str], Sequence[str]]


def schema(models: Models, title: str, known: Known | None = None) -> Schema:
    """The schema of a TOML file that one of `models` checks.

    Parameters
    ----------
    models : tables at the top of the file; of several, exactly one has to fit.
    title : of the schema.
    known : words to offer for a key, by the name of its table's class and its own; others are allowed beside them.
    """
    places, found = models_json_schema([(model, "validation") for model in models], schema_generator=_Documented)
    defined = found["$defs"]
    for (table, key), words in (known or {}).items():
        for name in (name for name in defined if name.split("__")[-1] == table):
            _offer(defined[name]["properties"], key, words)
    tops = [places[model, "validation"] for model in models]
    top = tops[0] if len(tops) == 1 else {"oneOf": tops}
    return {"$schema": DIALECT, "title": title, **top, "$defs": defined}


def documentation(model: type[BaseModel]) -> tuple[str, dict[str, str]]:
    """What the docstring of a table says of it, and of its keys; in Markdown."""
    text = "\n".join(inspect.getdoc(part) or "" for part in _with_parents(model))
    keys: dict[str, str] = {}
    for section in PARAMETERS.findall(text):
        for names, meaning in ENTRY.findall(section):
            keys |= dict.fromkeys(names.split(", "), plain(meaning))
    own = PARAMETERS.sub("", inspect.getdoc(model) or "")
    return plain(own), keys


def plain(text: str) -> str:
    """One paragraph a line; code in single backticks, as Markdown has it."""
    paragraphs = re.split(r"\n\s*\n", text.strip())
    return "\n\n".join(" ".join(part.split()) for part in paragraphs).replace("``", "`")


def _with_parents(model: type[BaseModel]) -> list[type[BaseModel]]:
    return [part for part in reversed(model.__mro__) if issubclass(part, BaseModel) and part is not BaseModel]


def _offer(properties: Schema, key: str, words: Sequence[str]) -> None:
    """Let an editor complete `words`."""
    entry = properties[key]
    about = {name: entry.pop(name) for name in ("description", "default") if name in entry}
    properties[key] = {"anyOf": [{"enum": list(words)}, entry]} | about


class _Documented(GenerateJsonSchema):
    """Without what TOML has not (null) and what says nothing (titles made of names)."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def nullable_schema(self, schema: core_schema.NullableSchema) -> Schema:
        return self.generate_inner(schema["schema"])

    def model_schema(self, schema: core_schema.ModelSchema) -> Schema:
        found = super().model_schema(schema)
        found.pop("title", None)
        found["description"], keys = documentation(schema["cls"])
        for key, entry in found.get("properties", {}).items():
            if entry.get("default", ...) is None:
                del entry["default"]
            if "description" in entry:
                entry["description"] = plain(entry["description"])
            elif key in keys:
                entry["description"] = keys[key]
        return found
