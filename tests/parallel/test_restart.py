"""Legs of a run make one run, on any number of ranks: fields, closure state, averages, spectra, rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests import runs

SETS = ("--set", "output.checkpoint=3.0", "--set", "output.every_steps=2")
OUTPUTS = ("profiles.csv", "budget.csv", "spectra.csv", "timeseries.csv", "statistics.h5")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A case folder with one run of 21 steps, dt from the CFL number."""
    case = runs.write_case(tmp_path_factory.mktemp("whole"))
    assert runs.solver("run", case, "--out", case / "run", *SETS, "--quiet").code == 0
    return case


def same(whole: Path, legs: Path) -> None:
    """Both run folders hold the same numbers."""
    assert runs.summary(legs)["steps"] == runs.summary(whole)["steps"]
    assert runs.summary(legs)["time"] == runs.summary(whole)["time"]
    last = runs.checkpoints(whole)[-1]
    assert {"closure/c_s2", "closure/calls", "statistics/sums", "plane_spectra/sums"} <= runs.arrays(last).keys()
    runs.assert_same([last], [runs.checkpoints(legs)[-1]], 1e-11)
    runs.assert_same([whole / name for name in OUTPUTS], [legs / name for name in OUTPUTS], 1e-8)  # ten digits
    assert runs.table(legs / "timeseries.csv").shape == runs.table(whole / "timeseries.csv").shape


@pytest.mark.parametrize("cut", [1, 2, 7, 8])
def test_two_legs(whole, tmp_path, cut):
    legs = tmp_path / "legs"
    assert runs.solver("run", whole, "--out", legs, *SETS, "--steps", cut, "--quiet").code == 0
    assert runs.solver("run", whole, "--restart", legs, *SETS, "--quiet").code == 0
    same(whole / "run", legs)


@runs.needs_mpirun
def test_legs_on_one_two_and_three_ranks(whole, tmp_path):
    legs = tmp_path / "legs"
    assert runs.solver("run", whole, "--out", legs, *SETS, "--steps", 5, "--quiet").code == 0
    for ranks, steps in ((2, ("--steps", 6)), (3, ())):
        command = ("-m", "solver", "run", whole, "--restart", legs, *SETS, *steps, "--quiet")
        done = runs.ended(runs.mpirun(ranks, *command))
        assert done.code == 0, done.err
        assert "solver:" not in done.err
        assert done.out == ""
        assert runs.summary(legs)["ranks"] == ranks
    same(whole / "run", legs)


FINER = ("grid.x.n=12", "grid.y.n=14", "grid.z.n=10", "grid.y.stretching=1.2", "time.end=30")
COARSER = ("grid.x.n=6", "grid.y.n=7", "grid.z.n=6", "time.end=30")


@pytest.mark.parametrize("change", [FINER, COARSER])
def test_start_from_another_grid(whole, tmp_path, change):
    """Finite, divergence-free, with the bulk velocity and nearly the energy of the run it comes from."""
    sets = [word for key in change for word in ("--set", key)]
    origin = f"initial={{kind='run', run='{whole / 'run'}'}}"
    run = tmp_path / "run"
    done = runs.solver("run", whole, "--out", run, "--set", origin, *sets, *SETS, "--steps", 4, "--quiet")
    assert done.code == 0, done.err
    before, after = (np.genfromtxt(r / "timeseries.csv", delimiter=",", names=True) for r in (whole / "run", run))
    assert np.isfinite(after["kinetic_energy"]).all()
    assert after["time"][0] == 0
    assert after["max_divergence"].max() < 1e-12
    assert after["bulk_velocity"][0] == pytest.approx(1.0, abs=0.02)
    assert after["bulk_velocity"][-1] == pytest.approx(1.0, abs=1e-12)
    assert after["kinetic_energy"][0] == pytest.approx(before["kinetic_energy"][-1], rel=0.05)
