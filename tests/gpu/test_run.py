"""A run on the device, from its case to its folder: every hook, checkpoints, and a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from solver.parallel import ranks
from tests import runs
from tests.gpu.pretend import counted, pretended

SETS = (
    "--set",
    "output.checkpoint=3.0",
    "--set",
    "output.snapshot=4.5",
    "--set",
    "statistics.start=0.5",
    "--set",
    "time.end=5.0",
)
OUTPUTS = ("profiles.csv", "budget.csv", "spectra.csv", "timeseries.csv", "statistics.h5")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A case folder with a run on the CPU in it."""
    case = runs.write_case(tmp_path_factory.mktemp("case"))
    assert runs.solver("run", case, "--out", case / "run", *SETS, "--quiet").code == 0
    return case


def test_two_legs_on_the_device_are_one_run_on_the_cpu(here, tmp_path, monkeypatch):
    there = tmp_path / "there"
    with pretended() as device, counted() as tally:
        monkeypatch.setattr(ranks, "choose_device", lambda wanted: device)
        first = runs.solver("run", here, "--out", there, *SETS, "--steps", 5, "--quiet")
        assert first.code == 0, first.err
        second = runs.solver("run", here, "--restart", there, *SETS, "--quiet")
        assert second.code == 0, second.err
    assert tally.kernels > 1000
    assert runs.summary(there)["device"] == "pretend:0"
    assert runs.summary(there)["steps"] == runs.summary(here / "run")["steps"]
    runs.assert_same(runs.checkpoints(here / "run"), runs.checkpoints(there), 1e-11)
    runs.assert_same([here / "run" / name for name in OUTPUTS], [there / name for name in OUTPUTS], 1e-8)
    snapshots = sorted((here / "run" / "snapshots").glob("*.h5"))
    assert len(snapshots) == 3
    runs.assert_same(snapshots, [there / "snapshots" / path.name for path in snapshots], 1e-5)  # single precision
