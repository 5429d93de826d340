"""The JSON schemas that editors read say what the loaders do, and explain every key."""

from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from closures.data import recipe_file
from closures.registry.schemas import KINDS, models, schema_of
from tests.runs import ROOT, solver

FILES = {
    "case": sorted((ROOT / "cases").glob("*/case.toml")),
    "data": [*recipe_file.shipped().values()],
    "training": [
        *sorted((ROOT / "closures/training/recipes").rglob("*.toml")),
        *sorted((ROOT / "closures/pressure_nets/recipes").rglob("*.toml")),
    ],
}
EACH = [pytest.param(kind, file, id=f"{kind}-{file.parent.name}-{file.stem}") for kind in FILES for file in FILES[kind]]
Walk = Iterator[tuple[str, dict[str, Any]]]


@cache
def validator(kind: str) -> Draft202012Validator:
    schema = schema_of(kind)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def loads(kind: str, data: dict[str, Any]) -> bool:
    """Whether one of the tables that read such a file takes it."""
    for model in models(kind):
        try:
            model.model_validate(data)
        except ValidationError:
            continue
        return True
    return False


def tables(data: dict[str, Any], name: str = "") -> Walk:
    """Every table in a file, those of lists too, with a name that says of what kind it is."""
    yield f"{name} {data.get('kind', '')}", data
    for key, value in data.items():
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, dict):
                yield from tables(inner, f"{name}.{key}")


def test_no_kind_of_file_is_missing():
    assert FILES.keys() == KINDS.keys()
    known = {file for files in FILES.values() for file in files}
    ours = {file for folder in ("cases", "closures") for file in (ROOT / folder).rglob("*.toml")}
    assert {file for file in ours if "pretrained" not in file.parts} - {ROOT / "cases/seconds.toml"} == known


@pytest.mark.parametrize(("kind", "file"), EACH)
def test_what_is_shipped_is_valid(kind, file):
    data = tomllib.loads(file.read_text())
    assert [error.message for error in validator(kind).iter_errors(data)] == []


@pytest.mark.parametrize("kind", KINDS)
def test_schema_and_loader_refuse_alike(kind):
    """Keys that nobody knows, in every sort of table; keys that are missing; kinds that there are not."""
    seen: set[str] = set()
    refused = 0
    for file in FILES[kind]:
        data = tomllib.loads(file.read_text())
        for place, (name, table) in enumerate(tables(data)):
            if name in seen:
                continue
            seen.add(name)
            for key in ("nonesuch", *table):
                changed = copy.deepcopy(data)
                here = list(tables(changed))[place][1]
                if key == "nonesuch":
                    here[key] = 1
                elif key == "kind":  # of a loss it may be that of another package
                    here[key] = "nonesuch"
                elif name.strip() in ("", ".grid", ".time", ".flow"):
                    del here[key]
                else:
                    continue
                taken, valid = loads(kind, changed), validator(kind).is_valid(changed)
                assert valid or not taken, f"{file.stem}: {name}: {key}"
                if key in here and not name.startswith(".loss "):  # what may be missing can depend on other tables
                    assert valid == taken, f"{file.stem}: {name}: {key}"
                refused += not valid
    assert refused > len(seen)


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_is_explained(kind):
    defined = schema_of(kind)["$defs"]
    silent = [
        f"{table}.{key}"
        for table, about in defined.items()
        for key, entry in about["properties"].items()
        if key != "kind" and "description" not in entry and "$ref" not in entry
    ]
    assert silent == []
    assert all(about["description"] for about in defined.values())


def test_lengths_may_be_multiples_of_pi():
    data = tomllib.loads((ROOT / "cases/channel180/case.toml").read_text())
    for length, good in ((3.0, True), ("2 pi / 3", True), ("2 pie", False), (-1.0, False), (1e13, False)):
        data["grid"]["x"]["length"] = length
        assert validator("case").is_valid(data) == loads("case", data) == good


def test_the_command_prints_it():
    done = solver("schema", "case")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out) == schema_of("case")
    names = json.loads(done.out)["$defs"]["ClosureTable"]["properties"]["name"]["anyOf"][0]["enum"]
    assert {"none", "wale", "tbnn", "corrector"} <= set(names)
    wrong = solver("schema", "cases")
    assert wrong.code == 2
    assert wrong.err == "solver: solver schema cases: should be one of case, data, training\n"
