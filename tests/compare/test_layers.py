"""Mixing layers: thickness and stresses of fields written down, planted errors, pairs of seeds, a small real run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from closures.compare import compare
from closures.compare.boxes import BoxJudge
from closures.compare.fields import snapshots, velocity_of
from closures.compare.layer_figures import layers
from closures.compare.layers import LayerJudge, measure, read_layers
from closures.compare.references import FILTERED
from closures.compare.runs import read
from solver.case.case import load_case
from solver.errors import CaseError, RunFolderError
from tests.compare.ensembles import ROOT
from tests.compare.test_boxes import compared, write_box, write_snapshot
from tests.runs import solver

CASE, DNS = ROOT / "cases" / "mixing_layer", ROOT / "cases" / "mixing_layer_dns"
COARSE = ("grid.x.n=8", "grid.y.n=64", "grid.z.n=12")
FINE = ("grid.x.n=16", "grid.y.n=128", "grid.z.n=16")
LENGTHS = np.array([4, 8, 8]) * np.pi
HIGHEST = (3, 31, 5)  # modes of COARSE
SHAPES = (12, 96, 12), (16, 128, 16)
TIMES = np.arange(10.0, 81.0, 10.0)
KEYS = ["layers", "momentum_thickness", "uu", "vv", "ww", "uv", "energy", "dissipation", "enstrophy", "spectrum"]
A, B, C, PHASE = 0.5, 0.3, 0.4, 0.7  # amplitudes of u', v', w', and by how much v' lags


def coordinates(*shape: int) -> tuple[np.ndarray, ...]:
    return tuple(length * np.arange(n) / n for length, n in zip(LENGTHS, shape, strict=True))


def tanh_layers(y: np.ndarray, theta: float) -> np.ndarray:
    """What `solver.flow.initial.shear_layers` starts from."""
    height = LENGTHS[1]
    return np.tanh((y - height / 4) / (2 * theta)) - np.tanh((y - 3 * height / 4) / (2 * theta)) - 1


def flow(points: tuple[np.ndarray, ...], theta: float, energy: float = 1.0, beyond: float = 0.0) -> np.ndarray:
    """Layers with two waves on them that are stronger below each layer's centre as seen with U rising.

    `energy` scales the stresses; `beyond` is the amplitude of modes that `COARSE` does not carry.
    """
    x, y, z = np.meshgrid(*points, indexing="ij")
    kx, ky, kz = 2 * np.pi / LENGTHS
    scale = np.sqrt(energy)
    u = tanh_layers(y, theta) + scale * A * (1 + 0.3 * np.cos(ky * y)) * np.cos(2 * kx * x)
    v = -scale * B * np.sin(ky * y) * np.cos(2 * kx * x + PHASE)
    w = scale * C * np.sin(3 * kz * z)
    return np.stack(
        [u + beyond * np.cos(4 * kx * x), v + beyond * np.sin(40 * ky * y), w + beyond * np.sin(7 * kz * z)]
    )


def expected_stresses(distance: np.ndarray) -> np.ndarray:
    """<u'u'>, <v'v'>, <w'w'>, -<u'v'> of `flow`, at this distance from the centre of a layer in which U rises."""
    sigma = 2 * np.pi / LENGTHS[1] * distance
    u, v = A * (1 - 0.3 * np.sin(sigma)), B * np.cos(sigma)
    return 0.5 * np.stack([u**2, v**2, C**2 + 0 * sigma, u * v * np.cos(PHASE)])


def write_layers(
    folder: Path,
    closure: str = "none",
    seed: int = 1,
    theta: float = 1.0,
    energy: float = 1.0,
    sets: tuple[str, ...] = COARSE,
    times: np.ndarray = TIMES,
    beyond: float = 0.0,
) -> Path:
    """A run whose layers grow linearly, ``theta (0.3 + t / 200)``, and so do its stresses, ``energy (1 + t / 50)``."""
    write_box(folder, closure, seed, sets=sets, source=CASE)
    points = coordinates(*SHAPES[beyond > 0])
    for t in times:
        write_snapshot(folder, flow(points, theta * (0.3 + t / 200), energy * (1 + t / 50), beyond), t, points)
    return folder


def test_stresses_are_exact():
    """They are averages over x and z of both layers, the upper one mirrored; what lies beyond the cut is not seen."""
    for beyond in (0.0, 0.6):
        distance, _, stresses = measure(flow(coordinates(*SHAPES[1]), 0.5, 1.0, beyond), HIGHEST, LENGTHS[1])
        assert distance[[0, 32, -1]] == pytest.approx([-LENGTHS[1] / 4, 0.0, LENGTHS[1] / 4])
        assert stresses == pytest.approx(expected_stresses(distance), abs=1e-13)


def test_momentum_thickness_is_that_of_the_profile():
    """A cosine is integrated exactly, ``int (1 - cos^2) / 4 dy = L / 16``; a tanh as well as its modes resolve it."""
    points = coordinates(*SHAPES[0])
    cosine = np.zeros((3, 12, 96, 12))
    cosine[0] = -np.cos(2 * np.pi * points[1] / LENGTHS[1])[None, :, None]
    assert measure(cosine, HIGHEST, LENGTHS[1])[1] == pytest.approx([LENGTHS[1] / 16] * 2, rel=1e-13)
    for theta in (0.5, 0.7):
        assert measure(flow(points, theta), HIGHEST, LENGTHS[1])[1] == pytest.approx([theta] * 2, rel=3e-4)
    missing = []
    for highest in (7, 11, 15):  # the spectrum of a tanh falls off exponentially, and so does what the cut takes away
        found = measure(flow(coordinates(12, 192, 12), 0.5), (3, highest, 3), LENGTHS[1])[1]
        missing.append(np.abs(found - 0.5).max())
    assert missing[0] > 5 * missing[1] > 25 * missing[2] > 0


def test_layers_that_differ_keep_their_own_thickness():
    points = coordinates(*SHAPES[0])
    velocity = flow(points, 0.5)
    upper = points[1] > LENGTHS[1] / 2
    velocity[0][:, upper] = flow(points, 0.8)[0][:, upper]
    assert measure(velocity, HIGHEST, LENGTHS[1])[1] == pytest.approx([0.5, 0.8], rel=2e-3)


def test_planted_errors_come_back(tmp_path):
    """5 % more thickness, 5 % more stress, and both; modes that only the reference carries make no difference."""
    truth = write_layers(tmp_path / "dns", sets=FINE, beyond=0.6)
    runs = [
        write_layers(tmp_path / "a", "none"),
        write_layers(tmp_path / "b", "wale", theta=1.05),
        write_layers(tmp_path / "c", "vreman", energy=0.95),
    ]
    comparison = compared(*runs, reference=truth)
    assert isinstance(comparison.judge, LayerJudge)
    assert [q.name for q in comparison.metrics] == KEYS
    none, wale, vreman = (j.errors.value for j in comparison.members)
    assert none == pytest.approx(0.0, abs=1e-5)
    assert wale[:6] == pytest.approx([0.05 / np.sqrt(5), 0.05, 0, 0, 0, 0], abs=1e-4)
    assert vreman[:6] == pytest.approx([0.05 * np.sqrt(0.8), 0, 0.05, 0.05, 0.05, 0.05], abs=1e-6)
    assert [j.errors.value[6:] for j in comparison.members] == [pytest.approx([0, 0, 0, 0], abs=1e-12)] * 3


def test_the_transient_is_not_judged(tmp_path):
    truth = write_layers(tmp_path / "dns")
    run = write_layers(tmp_path / "a")
    points = coordinates(*SHAPES[0])
    write_snapshot(run, flow(points, 3.0, 7.0), 10.0, points)  # a quarter of the common time is 20
    assert compared(run, reference=truth).members[0].errors.value == pytest.approx(0.0, abs=1e-12)
    write_snapshot(run, flow(points, 3.0, 7.0), 20.0, points)
    assert compared(run, reference=truth).members[0].errors.value[1] > 0.1


def test_steps_need_not_end_at_the_same_times(tmp_path):
    """A reference that is written 0.15 earlier has up to 0.2 % thinner layers; it is taken at the times of the run."""
    early = write_layers(tmp_path / "dns", times=np.append(TIMES - 0.15, 80.0))
    found = compared(write_layers(tmp_path / "a"), reference=early).members[0].errors.value
    assert found[:6] == pytest.approx(0.0, abs=1e-5)


def test_seeds_are_paired(tmp_path):
    """The spread between seeds, 20 %, is common to both closures; their difference, 2 %, is not lost in it."""
    truth = write_layers(tmp_path / "dns")
    scatter, tiny = {1: 1.1, 2: 1.3, 3: 1.2, 4: 1.4}, {1: 0.0, 2: 0.001, 3: -0.001, 4: 0.0005}
    short = TIMES[[1, -1]]
    runs = [write_layers(tmp_path / f"n{s}", "none", s, energy=e, times=short) for s, e in scatter.items()]
    runs += [
        write_layers(tmp_path / f"w{s}", "wale", s, energy=e - 0.02 + tiny[s], times=short) for s, e in scatter.items()
    ]
    wale = compared(*runs, reference=truth).members[1]
    assert wale.words[2:6] == ("better",) * 4
    assert wale.difference.value[2:6] == pytest.approx(-0.02, abs=0.001)
    assert wale.errors.half_width[2] > 0.1
    assert wale.difference.half_width[2] < 0.005


def test_what_is_missing_is_named_with_its_remedy(tmp_path):
    run, truth = write_layers(tmp_path / "a"), write_layers(tmp_path / "dns")
    bare = write_box(tmp_path / "bare", "none", 1, sets=COARSE, source=CASE)
    for one, other in ((bare, truth), (run, bare)):
        with pytest.raises(RunFolderError, match=r"bare: it has no snapshots.*set the same \[output\] snapshot"):
            compared(one, reference=other)
    between = write_layers(tmp_path / "b", times=TIMES[:3] + 5)
    with pytest.raises(
        CaseError, match=r"t = 15, 25, 35, the ref.*t = 10, 20.*no common time; set the same \[output\]"
    ):
        compared(between, reference=truth)
    table = compared(run, write_layers(tmp_path / "c", "wale"))
    assert not table.metrics  # without a reference nothing is measured
    other = write_box(tmp_path / "hit", "none", 1)
    assert type(compared(other, reference=other).judge) is BoxJudge


def test_the_picture_shows_what_was_written(tmp_path):
    truth = write_layers(tmp_path / "dns", times=TIMES[:-1])
    runs = write_layers(tmp_path / "a"), write_layers(tmp_path / "b", "wale", theta=1.1)
    figure, alt = layers(compared(*runs, reference=truth))
    growth, *across = figure.axes[:5]
    drawn = {line.get_label(): line.get_xydata().T for line in growth.lines}
    assert drawn["wale"] == pytest.approx(np.stack([TIMES, 1.1 * (0.3 + TIMES / 200)]), rel=1e-3)
    for axes, stress in zip(across, range(4), strict=True):
        for line in axes.lines:  # at t = 70, the last time that all have, in units of the squared difference
            distance, found = line.get_xydata().T
            assert found == pytest.approx((1 + 70 / 50) / 4 * expected_stresses(distance)[stress], abs=1e-12)
    assert [len(axes.lines) for axes in across] == [3] * 4
    assert "at t = 70" in alt
    assert alt.endswith("reference 0.65; none 0.65; wale 0.715.")


def test_the_simulation_that_judges_differs_in_its_grid_alone():
    les, dns = load_case(CASE)[0], load_case(DNS)[0]
    assert dns.closure.name == "none"
    for table in ("flow", "initial", "time", "output"):
        assert getattr(les, table) == getattr(dns, table)
    for coarse, fine in zip(les.build_grid().axes, dns.build_grid().axes, strict=True):
        assert (fine.length, fine.n) == (coarse.length, 2 * coarse.n)


@pytest.mark.slow
def test_a_real_run_against_a_filtered_one(tmp_path, monkeypatch):
    """`filtered-dns` is found by itself; what is judged is what the snapshots hold."""
    monkeypatch.chdir(tmp_path)
    shared = ["time.end=2.0", "output.snapshot=0.5", "output.spectra=0.2", "run.device=cpu", "run.fuse=off"]
    for source, closure, cells in ((DNS, "none", (16, 32, 16)), (CASE, "none", (8, 16, 8)), (CASE, "wale", (8, 16, 8))):
        sets = [*shared, "initial.thickness=1.0", *(f"grid.{axis}.n={n}" for axis, n in zip("xyz", cells, strict=True))]
        words = [word for setting in sets for word in ("--set", setting)]
        assert solver("run", source, "--closure", closure, "--quiet", *words).code == 0
    folders = sorted(Path("runs").glob("mixing_layer-*"))
    out = compare(folders, reference=FILTERED, out=tmp_path / "report", console=Console(quiet=True))
    record = json.loads((out / "report.json").read_text())
    assert record["reference"]["citation"].startswith("filtered DNS (mixing_layer_dns-none-")
    assert [q["key"] for q in record["quantities"]] == KEYS
    assert (out / "figures" / "layers.png").is_file()
    for folder, row in zip(folders, record["rows"], strict=True):
        found = read_layers(read(folder), (3, 7, 3))
        assert found.thickness[0] == pytest.approx(1.0, rel=0.02)
        files = snapshots(folder)
        mean = np.stack([velocity_of(files[t])[0].mean((0, 2)) for t in sorted(files)])
        plain = 0.5 * LENGTHS[1] * (0.25 - 0.25 * mean**2).mean(1)
        assert found.thickness.mean(1) == pytest.approx(plain, rel=1e-6)
        errors = [row["errors"][key]["value"] for key in KEYS[:6]]
        assert errors[0] == pytest.approx(np.sqrt(np.mean(np.square(errors[1:]))))
        assert 0 < errors[1] < 0.05
