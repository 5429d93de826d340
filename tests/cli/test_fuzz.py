"""Inputs that once broke something, and a few more of every kind; `tests/fuzz.py` tries as many as one likes."""

from __future__ import annotations

import numpy as np
import pytest

from solver.errors import CaseError
from solver.grid.axis import FourierAxis
from solver.grid.grid import Grid
from solver.parallel import memory
from tests.damaged import KINDS
from tests.fuzz import FOUND, attempt, judged
from tests.runs import ROOT, Ended, solver

FEW = {"case": 10, "recipe": 20, "card": 5, "table": 2, "hdf5": 6, "stl": 4, "familiar": 4}


@pytest.mark.parametrize(("kind", "number"), [*FOUND, *((kind, n) for kind in KINDS for n in range(FEW[kind]))])
def test_a_damaged_input_ends_in_an_answer_or_one_line(kind, number):
    assert attempt(kind, number) == ""


def test_the_fuzzer_sees_what_is_wrong():
    """Tracebacks, other exit codes, silence, several lines."""
    assert judged(Ended(0, "", "")) == ""
    assert judged(Ended(2, "", "solver: it is so\n")) == ""
    assert "KeyError" in judged(Ended(1, "", "Traceback (most recent call last):\n  x\nKeyError: 'a'\n"))
    assert judged(Ended(1, "", "solver: a bug\n")) == "exit code 1"
    assert "without a word" in judged(Ended(3, "", ""))
    assert "more than one line" in judged(Ended(2, "", "solver: it\nis so\n"))


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("grid.x.n=100000", "points needs"),
        ("grid.x.length=1e300", "1000000000000"),
        ("grid.x.length=1e8", "the sides of the box differ"),
    ],
)
def test_absurd_sizes_are_one_line_before_anything_is_allocated(setting, words):
    points = (8, 8, 8) if "length" in setting else (8, 100000, 100000)
    sizes = [f"grid.{axis}.n={n}" for axis, n in zip("xyz", points, strict=True)]
    words_given = [word for each in (*sizes, setting) for word in ("--set", each)]
    done = solver("check", ROOT / "cases/hit_decay", *words_given)
    assert done.code == 2
    assert words in done.err
    assert len(done.err.splitlines()) == 1


def test_what_fits_is_not_refused(monkeypatch):
    grid = Grid(*(FourierAxis(64, 2 * np.pi) for _ in range(3)))
    memory.require_for(grid, 1, 8)
    monkeypatch.setattr(memory.os, "sysconf", lambda name: 2**13)
    with pytest.raises(CaseError, match=r"\[grid\] 96 x 96 x 96 points needs"):
        memory.require_for(grid, 1, 8)
