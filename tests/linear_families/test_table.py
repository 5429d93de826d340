"""The table of methods is its data, and the families' default methods are the winners of the table."""

from __future__ import annotations

import pytest

from tests.bench_pages import BENCH, load

SPECIAL = ("cholesky", "gamg", "icc", "ilu", "sor", "(")  # PETSc's, and sizes other than GCRO-DR(40, 20)
CLOSE = 1.3  # times that differ by less are a matter of the day

skr_page = load("skr_page")
load("skr_cases")
skr = load("skr")
RECORDS = skr_page.read(BENCH / "skr.json")
TABLE = {case: m for case, m in skr_page.by_case(RECORDS).items() if case in skr.cases()}
CHOSEN = [case for case in TABLE if not case.startswith(("weak", "inclusions"))]


def test_the_page_is_made_from_the_records():
    assert (BENCH / "skr.md").read_text(encoding="utf-8") == skr_page.page(RECORDS)


def test_records_belong_to_the_table():
    assert set(TABLE) == {r["case"] for r in RECORDS}
    assert all(skr.named(r["method"]).name == r["method"].partition("(")[0] for r in RECORDS)
    assert len({skr.key(r) for r in RECORDS}) == len(RECORDS)


@pytest.mark.parametrize("case", CHOSEN)
def test_the_default_is_the_winner(case):
    default = skr.family_of(case).default_method
    record = TABLE[case].get(default, {}).get(1, {})
    if not skr_page.solved(record):
        pytest.skip("the default is not measured, or left a system unsolved: the table says which")
    plain = {name: found for name, found in TABLE[case].items() if not any(word in name for word in SPECIAL)}
    name, best = skr_page.fastest(plain)
    assert skr_page.warm(record) <= CLOSE * best, f"{name} is faster than the default {default}"


def test_page_of_made_up_records():
    def record(case: str, name: str, seconds: float, residual: float = 1e-9, steps: float = 30.0) -> dict:
        common = {"case": case, "method": name, "ranks": 1, "tolerance": 1e-8, "unknowns": 16, "machine": "A machine"}
        times = {"seconds": 2 * seconds, "late_seconds": seconds, "iterations": steps, "late_iterations": steps}
        return common | times | {"samples": 3, "residual": residual}

    records = [
        record("darcy-2d-1e4", "cg+fft", 0.002, steps=9.25),
        record("darcy-2d-1e4", "skr", 0.001),
        record("darcy-2d-1e4", "gmres", 0.0001, residual=0.5),
        {"case": "darcy-2d-1e4", "method": "direct", "ranks": 1, "tolerance": 1e-8, "failure": "out of memory"},
        record("weak-darcy-1e4", "gmres+sor", 0.3, residual=0.5, steps=10_000),
        record("weak-darcy-1e4", "skr+sor", 0.1, steps=400),
    ]
    text = skr_page.page(records)
    assert "| darcy-2d | 16 | `cg+fft` 2 | **`skr` 1** |  | 2 |" in text
    assert "| cg+fft | 9.2 | 9.2 | 4 | 2 |  |  | 3 |" in text
    assert "| gmres | 30, residual 5e-01 |" in text
    assert "| direct |  |  | out of memory |" in text
    assert "| darcy | 16 | sor | 10000, residual 5e-01 | 300 | 400 | 100 | > 25.0 | 3.0 |" in text
