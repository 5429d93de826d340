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


@pytest.fixture(scope="module")
def numbers(bench):
    return json.loads(bench.NUMBERS.read_text())


def test_the_page_is_its_numbers(bench, numbers):
    assert bench.PAGE.read_text() == bench.page(numbers)
    changed = [r | {"milliseconds": 2.0 * r["milliseconds"]} for r in numbers["records"] if "failure" not in r]
    assert bench.page(numbers | {"records": changed}) != bench.page(numbers)


def test_every_operator_is_measured_as_it_is_described(bench, numbers):
    assert {r["operator"] for r in numbers["records"]} == set(bench.OPERATORS)
    for record in numbers["records"]:
        if "failure" not in record:
            network = build(record["operator"], **bench.OPERATORS[record["operator"]])
            assert record["parameters"] == sum(p.numel() for p in network.parameters())


def test_the_three_sets_are_disjoint_and_validation_alone_chose_the_rate(bench, numbers):
    about = numbers["set"]
    sets = [about["training"], about["validation"], about["test"]]
    assert all(sets)
    assert len({n for s in sets for n in s}) == sum(map(len, sets))
    for record in numbers["records"]:
        assert record["seed"] != bench.SEARCH
        if "failure" not in record:
            order = [rate for _, rate in sorted(p for p in zip(record["losses"], bench.RATES, strict=True) if p[0])]
            assert order[len(record["lost"])] == record["rate"]
            assert record["validation_loss"] < min(record["losses"])


def test_seeds_are_a_median_and_a_range(bench):
    about = {"frames": 9, "interval": 0.2, "training": [0, 1], "apart": {"u_mean": 1.5}}
    common = {"operator": "fno", "epochs": 3, "budget": 60.0, "parameters": 7, "milliseconds": 5.0}
    common |= {"rate": bench.RATES[1], "search": 9.0, "frozen": {"one step": 32.0, "five steps": 70.0}}
    profiles = dict.fromkeys((m.name for m in bench.WALL_FLOW), 10.0)
    rows = [
        common | {"errors": {"one step": e, "five steps": 20.0}, "profiles": profiles | {"u_mean": u}, "stays": n}
        for e, u, n in ((10.0, 1.0, 1000), (14.0, None, 9))
    ]
    failed = {"operator": "ifno", "seed": 1, "failure": "the gradient is not finite"}
    page = bench.page({"set": about, "records": [*rows, failed]})
    assert "| fno | 7 | 0.002 | 3 | 12 (10 .. 14) | 20 (20 .. 20) | 1 |" in page
    assert "in order: fno 12 %. 1 of 2 long runs reach 1000 steps, 1 with a mean profile to within 5 %" in page
    assert "| a frozen field | | | | 32 | 70 | - |" in page
    assert "| the validation trajectory | | | | - | - | 1.5 |" in page
    assert "ifno, seed 1: the gradient is not finite" in page
    assert "Not run over many steps yet" not in page
    fresh = [{key: value for key, value in r.items() if key != "stays"} for r in rows]
    assert "Not run over many steps yet: fno." in bench.page({"set": about, "records": fresh})
    lost = bench.page({"set": about, "records": [r | {"lost": [0.008]} for r in rows[:1]]})
    assert "lost in the training: fno with 0.008." in lost
    edge = bench.page({"set": about, "records": [r | {"rate": bench.RATES[0]} for r in rows]})
    assert "| fno | 7 | 0.0005* | 3 |" in edge
