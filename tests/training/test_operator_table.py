"""The page of state operators is its numbers."""

from __future__ import annotations

import json

import pytest

from closures.operators import build
from tests.bench_pages import load


@pytest.fixture(scope="module")
def bench():
    """``bench/operators.py``, which is no module of the packages."""
    load("rollout")
    return load("operators")


def test_the_page_is_its_numbers(bench):
    records = json.loads(bench.NUMBERS.read_text())
    assert bench.PAGE.read_text() == bench.page(records)
    changed = [r | {"stays": r.get("stays", 0) + 1} for r in records]
    assert bench.page(changed) != bench.page(records)


def test_every_operator_is_measured_as_it_is_described(bench):
    records = json.loads(bench.NUMBERS.read_text())
    assert {r["operator"] for r in records} == set(bench.OPERATORS)
    for record in records:
        if "failure" not in record:
            network = build(record["operator"], **bench.OPERATORS[record["operator"]])
            assert record["parameters"] == sum(p.numel() for p in network.parameters())


def test_seeds_are_a_median_and_a_range(bench):
    errors = dict.fromkeys(bench.COLUMNS, 10.0)
    common = {"operator": "fno", "epochs": 3, "budget": 60.0, "parameters": 7, "frozen": 1.04, "milliseconds": 5.0}
    rows = [
        common | {"errors": errors | {"one step": e, "u_mean": u}, "stays": 9} for e, u in ((10.0, 1.0), (14.0, None))
    ]
    failed = {"operator": "ifno", "seed": 1, "failure": "the gradient is not finite"}
    page = bench.page([*rows, failed])
    assert "| fno | 7 | 3 | 12 (10 .. 14) | 10 (10 .. 10) | 1 |" in page
    assert "ifno, seed 1: the gradient is not finite" in page
