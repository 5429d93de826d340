"""What is wrong with a case file, in one line: the table, the key, and the remedy."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

LONGEST_VALUE = 60
A_TABLE = "should be a table"
WORDS = {"model_type": A_TABLE, "model_attributes_type": A_TABLE, "dict_type": A_TABLE}


def explain(error: ValidationError, model: type[BaseModel], data: dict[str, Any]) -> str:
    """The most telling problem of `data` as a `model`: an unknown key, else the deepest one."""
    found = [_Problem(problem, model, data) for problem in error.errors()]
    return max(found, key=lambda p: (p.kind == "extra_forbidden", len(p.path), not p.is_word_for_table)).line()


class _Problem:
    """One pydantic error, with the keys of the file that lead to it and the tables it may be about."""

    def __init__(self, problem: Any, model: type[BaseModel], data: dict[str, Any]) -> None:
        self.kind, self.input, self.message = problem["type"], problem["input"], problem["msg"]
        self.context = problem.get("ctx", {})
        self.path: list[str] = []
        self.models: list[type[BaseModel]] = [model]
        here: Any = data
        for i, part in enumerate(problem["loc"]):
            last = i == len(problem["loc"]) - 1
            if isinstance(here, dict) and (part in here or (last and self.kind == "missing")):
                self.path.append(
                    repr(part)[1:-1] if isinstance(part, str) else str(part)
                )  # one line, whatever it holds
                here = here.get(part)
                if not (last and self.kind == "extra_forbidden"):
                    self.models = [t for m in self.models for t in _tables(m, str(part))]
            elif _is_row(here, part):
                self.path.append(str(part))
                here = here[part]
            elif isinstance(part, str):  # pydantic names the member of a union it tried
                self.models = [m for m in self.models if _goes_by(m, part)] or self.models

    @property
    def is_word_for_table(self) -> bool:
        """A table was given where a word may stand as well: what is wrong inside the table says more."""
        return self.kind == "literal_error" and isinstance(self.input, dict)

    def line(self) -> str:
        """``[table] key = value: what it should be``."""
        tables, key = self.path[:-1], self.path[-1] if self.path else ""
        if self.kind.startswith("union_tag"):
            return self._wrong_kind(key)
        if self.kind in ("value_error", "assertion_error") and isinstance(self.input, dict | BaseModel):
            return f"{_where(self.path)}{self.message.removeprefix('Value error, ')}"
        if self.kind == "extra_forbidden":
            return f"{_where(tables)}unknown key '{key}'{self._hint(key)}"
        if self.kind == "missing":
            return f"{_where(tables)}missing key '{key}'"
        text = WORDS.get(self.kind, self.message.removeprefix("Value error, ").removeprefix("Input "))
        return f"{_where(tables)}{key} = {_short(self.input)}: {text}"

    def _wrong_kind(self, key: str) -> str:
        if not isinstance(self.input, dict):
            return f"{_where(self.path[:-1])}{key} = {_short(self.input)}: {A_TABLE}"
        if "kind" not in self.input:
            return f"{_where(self.path)}missing key 'kind'"
        known = self.context.get("expected_tags")
        return f"{_where(self.path)}kind = {self.input['kind']!r}: should be one of {known}"

    def _hint(self, key: str) -> str:
        known = sorted({field for model in self.models for field in model.model_fields})
        near = difflib.get_close_matches(key, known, 1)
        return f"; did you mean '{near[0]}'?" if near else f"; known keys: {', '.join(known)}"


def _is_row(here: Any, part: Any) -> bool:
    """Whether `here` is a list of tables that has number `part`; too short a list is a problem of its own."""
    return isinstance(here, list) and isinstance(part, int) and part < len(here) and isinstance(here[part], dict)


def _where(tables: Sequence[str]) -> str:
    return f"[{'.'.join(tables)}] " if tables else ""


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."


def _tables(model: type[BaseModel], key: str) -> list[type[BaseModel]]:
    field = model.model_fields.get(key)
    return _models_of(field.annotation) if field else []


def _models_of(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for part in typing.get_args(annotation) for m in _models_of(part)]


def _goes_by(model: type[BaseModel], tag: str) -> bool:
    kind = model.model_fields.get("kind")
    return tag == model.__name__ or (kind is not None and tag in typing.get_args(kind.annotation))
