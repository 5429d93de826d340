"""Boxes: curves of known error, pairs of seeds, filtered fields and increments; filtered channels."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from closures.compare.boxes import BoxJudge, Decay
from closures.compare.fields import (
    BINS,
    coefficients,
    common_modes,
    increment_density,
    increment_distance,
    increments,
    snapshots,
    velocity_of,
)
from closures.compare.figures import draw
from closures.compare.filtering import cutoff, filtered_moments
from closures.compare.references import resolve
from closures.compare.runs import group, read
from closures.compare.verdicts import compare_members
from solver.analysis.moments import INDEX
from solver.case.case import load_case
from solver.errors import CaseError, RunFolderError
from solver.files.folder import to_toml
from tests.compare.ensembles import ROOT

CASE = ROOT / "cases" / "hit_decay"
SUMMARY = {"status": "finished", "case": "hit_decay", "grid": [24, 24, 24], "ranks": 1, "threads": 1, "device": "cpu"}
SUMMARY |= {"steps": 100, "time": 4.0, "wall_seconds": 1.0, "seconds_per_step": 0.01, "closure_fraction": 0.0}


def write_box(
    folder: Path, closure: str, seed: int, factor: float = 1.0, sets: tuple[str, ...] = (), source: Path = CASE
) -> Path:
    """A decay ``E(k, t) = factor k^-2 / (1 + t)^2`` of a 16^3 box."""
    cells = tuple(f"grid.{axis}.n=16" for axis in "xyz")
    case, _ = load_case(source, (*cells, f"initial.seed={seed}", *sets), closure)
    folder.mkdir(parents=True)
    (folder / "case.toml").write_text(to_toml(case.model_dump(exclude_none=True)))
    (folder / "provenance.json").write_text("{}")
    (folder / "summary.json").write_text(json.dumps(SUMMARY | {"closure": closure}))
    with (folder / "spectra.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["time", "k", "E"])
        for t in np.linspace(0, case.time.end, 41):
            table.writerows([t, k, factor * (k**-2.0 if k else 0.0) / (1 + t) ** 2] for k in range(12))
    with (folder / "timeseries.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["time", "kinetic_energy"])
        table.writerows([t, factor / (1 + t) ** 2] for t in np.linspace(0, case.time.end, 41))
    return folder


def write_snapshot(folder: Path, velocity: np.ndarray, time: float, points: tuple[np.ndarray, ...]) -> None:
    (folder / "snapshots").mkdir(exist_ok=True, parents=True)
    with h5py.File(folder / "snapshots" / f"step_{round(1000 * time):08d}.h5", "w") as file:
        file["velocity"] = velocity
        for name, x in zip("xyz", points, strict=True):
            file[name] = x
        file.attrs["time"], file.attrs["nu"] = time, 0.01


def box_points(n: int) -> tuple[np.ndarray, ...]:
    return (2 * np.pi * np.arange(n) / n,) * 3


def compared(*folders: Path, reference: Path | None = None):
    runs = [read(folder) for folder in folders]
    return compare_members(group(runs), resolve(str(reference) if reference else None, runs))


def test_errors_of_curves_that_are_scaled(tmp_path):
    truth = write_box(tmp_path / "dns", "none", 1)
    runs = [write_box(tmp_path / "a", "none", 1, 1.1), write_box(tmp_path / "b", "wale", 1, 0.8)]
    comparison = compared(*runs, reference=truth)
    assert [q.name for q in comparison.metrics] == ["energy", "dissipation", "enstrophy", "spectrum"]
    assert isinstance(comparison.judge, BoxJudge)
    assert comparison.judge.cut == 7.0
    none, wale = (j.errors.value for j in comparison.members)
    assert none == pytest.approx([0.1, 0.1, 0.1, np.log10(1.1)])
    assert wale == pytest.approx([0.2, 0.2, 0.2, -np.log10(0.8)])
    assert set(comparison.members[1].words) == {"not judged"}  # one random run on each side


def test_seeds_are_paired(tmp_path):
    """The spread between seeds, 20 %, is common to both closures; their difference, 2 %, is not lost in it."""
    truth = write_box(tmp_path / "dns", "none", 1)
    scatter = {1: 1.1, 2: 1.3, 3: 1.2, 4: 1.4}
    tiny = {1: 0.0, 2: 0.001, 3: -0.001, 4: 0.0005}
    runs = [write_box(tmp_path / f"n{s}", "none", s, f) for s, f in scatter.items()]
    runs += [write_box(tmp_path / f"w{s}", "wale", s, f - 0.02 + tiny[s]) for s, f in scatter.items()]
    wale = compared(*runs, reference=truth).members[1]
    assert set(wale.words) == {"better"}
    assert wale.errors.half_width[0] > 0.1
    assert wale.difference.half_width[0] < 0.005
    unpaired = [write_box(tmp_path / f"v{s}", "vreman", s + 10, f - 0.02) for s, f in scatter.items()]
    assert set(compared(*runs[:4], *unpaired, reference=truth).members[1].words) == {"not distinguishable"}


def test_a_box_that_diverged_at_once_is_shown(tmp_path):
    """It has left neither spectra nor enough of a time series to draw."""
    truth, sound = write_box(tmp_path / "dns", "none", 1), write_box(tmp_path / "a", "none", 1, 1.1)
    broken = write_box(tmp_path / "b", "wale", 1)
    (broken / "summary.json").write_text(json.dumps(SUMMARY | {"closure": "wale", "status": "diverged", "time": 0.1}))
    (broken / "spectra.csv").unlink()
    (broken / "timeseries.csv").write_text("time,kinetic_energy\n0,1\n0.1,2\n")
    comparison = compared(sound, broken, reference=truth)
    assert comparison.members[1].member.status == "diverged at t = 0.1"
    assert set(comparison.members[1].words) == {"diverged"}
    assert "decay" in [picture.name for picture in draw(comparison)]


def test_without_a_reference_nothing_is_judged(tmp_path):
    comparison = compared(write_box(tmp_path / "a", "none", 1), write_box(tmp_path / "b", "wale", 1))
    assert comparison.metrics == ()
    assert comparison.members[0].cost.seconds_per_unit == pytest.approx(0.25)


def test_no_overlap_and_missing_spectra(tmp_path):
    run = write_box(tmp_path / "a", "none", 1)
    other = write_box(tmp_path / "b", "none", 1, sets=("flow.nu=0.03",))
    with pytest.raises(CaseError, match=r"nu = 0.03 and box 6.283.*no overlap"):
        compared(run, reference=other)
    late = write_box(tmp_path / "c", "none", 1)
    rows = (late / "spectra.csv").read_text().splitlines()
    (late / "spectra.csv").write_text("\n".join([rows[0], *rows[-12 * 4 :]]) + "\n")
    with pytest.raises(CaseError, match=r"covers t = 0 to 4.*3.7 to 4: no overlap"):
        compared(run, reference=late)
    (run / "spectra.csv").unlink()
    with pytest.raises(RunFolderError, match=r"no spectra in time.*\[output\] spectra"):
        compared(run, reference=write_box(tmp_path / "d", "none", 1))


def test_fields_are_compared_by_the_modes_that_both_grids_carry(tmp_path):
    """The finer field has a mode beyond the coarse grid's; after it is filtered, both are the same field."""
    folders = write_box(tmp_path / "les", "none", 1), write_box(tmp_path / "dns", "none", 1, sets=("grid.x.n=32",))
    for folder, n, extra in zip(folders, (24, 50), (0.0, 0.7), strict=True):
        x, y, z = np.meshgrid(*box_points(n), indexing="ij")
        u = np.stack([np.sin(x) * np.cos(2 * y), np.cos(3 * z), np.sin(7 * x)])
        u[0] += extra * np.cos(12 * x)
        write_snapshot(folder, u, 1.0, box_points(n))
        write_snapshot(folder, (1.25 if extra == 0 else 1.0) * u, 2.0, box_points(n))
    highest, files = common_modes(*map(read, folders)), [snapshots(folder) for folder in folders]
    for t, expected in ((1.0, 0.0), (2.0, 0.25)):
        ours, theirs = (coefficients(velocity_of(found[t]), highest) for found in files)
        assert np.linalg.norm(ours - theirs) / np.linalg.norm(theirs) == pytest.approx(expected, abs=1e-12)


def test_enstrophy_weighs_shells_by_their_wavenumber():
    """``E = k^-2`` up to k = 7: every shell has the same share of the enstrophy; half of the last is 1/14 of all."""
    k, times = np.arange(1.0, 8.0), np.linspace(0, 1, 5)
    full = Decay(times, np.ones(5), k, np.tile(k**-2, (5, 1)))
    less = Decay(times, np.ones(5), k, np.tile(k**-2 * np.where(k == 7, 0.5, 1.0), (5, 1)))
    assert full.enstrophy == pytest.approx(np.full(5, 7.0))
    assert 1 - less.at(times)[2] / full.at(times)[2] == pytest.approx(np.full(5, 1 / 14))


def test_distance_of_increments(tmp_path):
    """None for the same field with modes that the other grid lacks; the known area for fields of another shape."""
    folders = write_box(tmp_path / "les", "none", 1), write_box(tmp_path / "dns", "none", 1, sets=("grid.x.n=32",))
    for folder, n, extra in zip(folders, (24, 50), (0.0, 0.7), strict=True):
        x, y, z = np.meshgrid(*box_points(n), indexing="ij")
        u = np.stack([np.sin(x), np.sin(y), np.sin(z)])
        u[0] += extra * np.cos(12 * x)
        write_snapshot(folder, u, 1.0, box_points(n))
        if extra == 0.0:  # as rough as noise, which has no bounds: an increment of a wave is within sqrt(2) deviations
            u = np.random.default_rng(11).standard_normal((3, n, n, n))
        write_snapshot(folder, u, 2.0, box_points(n))
    les, dns = (read(folder) for folder in folders)
    assert increment_distance(les, dns, 1.5) > 0.3
    assert increment_distance(les, dns, 0.0) == pytest.approx(0.5 * increment_distance(les, dns, 1.5), rel=1e-9)
    density, (skewness, flatness) = increment_density(u, (7, 7, 7))
    assert (density.sum() * np.diff(BINS)[0], skewness) == pytest.approx((1.0, 0.0), abs=1e-9)
    assert flatness == pytest.approx(1.5)  # of a sine
    assert "increments" in [q.name for q in compared(*folders[:1], reference=folders[1]).metrics]


def test_increments_of_a_normal_field_are_normal():
    rng = np.random.default_rng(3107)
    found = increments(rng.standard_normal((3, 32, 32, 32)), 1)
    assert found.std() == pytest.approx(1.0)
    assert (found**4).mean() == pytest.approx(3.0, abs=0.08)
    assert (found**3).mean() == pytest.approx(0.0, abs=0.05)


def test_filtered_channel_moments(tmp_path):
    """Only modes of the coarse grid stay: u'u' loses exactly the variance of the one beyond."""
    case, _ = load_case(ROOT / "cases" / "channel180_coarse")
    grid = case.build_grid()
    lengths = [axis.length for axis in grid.axes]
    points = [length * np.arange(n) / n for length, n in zip(lengths, (96, 6, 64), strict=True)]
    x, _, z = np.meshgrid(*points, indexing="ij")
    kx, kz = 2 * np.pi / lengths[0], 2 * np.pi / lengths[2]
    kept, beyond = grid.fourier_axes[0].highest_mode, grid.fourier_axes[0].highest_mode + 1
    for i, time in enumerate((10.0, 100.0, 110.0, 120.0, 130.0)):
        shift = 0.3 * i
        u = 2.0 + np.cos(kept * kx * x + shift) + 3 * np.cos(beyond * kx * x + shift)
        velocity = np.stack([u, np.cos(kept * kx * x + shift), 5 * np.cos(20 * kz * z)])
        write_snapshot(tmp_path, velocity, time, tuple(points))
    sample = filtered_moments(tmp_path, grid)
    mean = sample.mean[:, :, 0]
    assert sample.count == 4  # the first one belongs to the transient
    assert mean[INDEX["u"]] == pytest.approx(2.0)
    assert mean[INDEX["uu"]] == pytest.approx(4.5)
    assert mean[INDEX["uv"]] == pytest.approx(0.5)
    assert mean[INDEX["ww"]] == pytest.approx(0.0, abs=1e-12)
    assert cutoff(velocity, {0: lengths[0], 2: lengths[2]}, grid).shape == velocity.shape
