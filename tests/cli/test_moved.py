"""What a nightly job says of two tables of speed."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from tests.bench_pages import load

LINE = {"flow": "channel", "grid": [32, 48, 32], "closure": "none", "dtype": "float64", "device": "cpu", "ranks": 1}


def record(seconds=0.010, transforms=6.0, machine="here", ratio=3.0, **other):
    parts = {"transforms": transforms, "momentum": 3.0, "control": 0.01}
    about = {"seconds_per_step": seconds, "milliseconds": parts, "machine": machine, "ten_transforms_ratio": ratio}
    return LINE | about | other


@pytest.fixture
def said(tmp_path):
    """What is printed of a stored and a new table, and the exit code."""
    import typer

    app = typer.Typer()
    app.command()(load("moved").main)

    def run(stored, found):
        files = [tmp_path / name for name in ("stored.json", "found.json")]
        for file, records in zip(files, (stored, found), strict=True):
            file.write_text(json.dumps(records))
        ended = CliRunner().invoke(app, [str(file) for file in files])
        return ended.exit_code, ended.output

    return run


def test_a_slower_step_is_named_with_the_part_that_moved(said):
    code, text = said([record()], [record(seconds=0.012, transforms=8.0)])
    assert code == 1
    assert "channel 32x48x32 none float64 cpu 1: step x 1.20" in text
    assert "transforms x 1.33" in text
    assert "momentum" not in text
    assert "1 lines compared, 1 slower by more than 5%" in text


def test_what_is_faster_or_as_fast_is_no_failure(said):
    assert said([record()], [record(seconds=0.0102)]) == (0, "1 lines compared, 0 slower by more than 5%\n")
    code, text = said([record()], [record(seconds=0.008, transforms=4.0)])
    assert code == 0
    assert "step x 0.80" in text


def test_on_another_machine_the_ratio_to_transforms_decides(said):
    """Twice the time there is nothing; a tenth more than its own transforms is."""
    there = {"machine": "there", "seconds": 0.020, "transforms": 12.0}
    assert said([record()], [record(**there)])[0] == 0
    code, text = said([record()], [record(**there, ratio=3.3)])
    assert code == 1
    assert "step / ten transforms x 1.10" in text


def test_tables_without_a_common_line_are_a_failure(said):
    code, text = said([record()], [record(ranks=2)])
    assert code == 1
    assert "0 lines compared" in text
