"""What the picture of a run around solids shows is what the run holds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from solver.figures import snapshot, solids
from solver.figures.results import Results
from tests import runs
from tests.solids.test_cases import CASE

SETS = ("--set", "time.end=2.0", "--set", "output.snapshot=1.0")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run around a post."""
    folder = tmp_path_factory.mktemp("post")
    (folder / "case.toml").write_text(CASE)
    assert runs.solver("run", folder, "--out", folder / "run", *SETS, "--quiet").code == 0
    return folder / "run"


def test_the_body_is_where_the_case_has_it(run):
    bodies = solids.bodies_of(run)
    x, y = bodies.centres
    wanted = (x[:, None] - 1.2) ** 2 + (y - 0.95) ** 2 <= 0.3**2
    assert wanted.sum() > 4
    assert np.array_equal(bodies.solid[:, :, 0], wanted)
    (left, right), (low, high) = bodies.window()
    assert (left, low, high) == (0.0, 0.0, 2.0)  # the box ends there
    assert 1.5 < right <= 4.0


def test_vorticity_forces_and_averages(run):
    results = Results(run, {})
    figure = solids.plot_solids(results)
    plane, history, bar = figure.axes
    colours, body = plane.collections
    last = snapshot.latest_snapshot(run)
    u, v = last.velocity[:2, :, :, 0].astype(float)
    vorticity = np.gradient(v, last.x, axis=0, edge_order=2) - np.gradient(u, last.y, axis=1, edge_order=2)
    np.testing.assert_allclose(np.ravel(colours.get_array()), vorticity.T.ravel(), atol=1e-6)
    assert (~np.ma.getmaskarray(body.get_array())).sum() == solids.bodies_of(run).solid.sum()
    assert f"{last.time:.4g}" in plane.get_title()
    assert bar.get_ylabel() == r"$\omega_z$"
    series = results.table("timeseries")
    for line, name in zip(history.lines, ("c_d", "c_l"), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), series[name])
    (text,) = history.texts
    assert f"{results.summary['forces']['c_d']:.3f}" in text.get_text()


def test_forces_alone_without_a_snapshot(run, tmp_path):
    for name in ("case.toml", "timeseries.csv"):
        (tmp_path / name).write_text((run / name).read_text())
    figure = solids.plot_solids(Results(tmp_path, {}))
    assert len(figure.axes) == 1
    assert not figure.axes[0].texts


def test_space_shows_speed_in_the_plane_of_most_solid(run, tmp_path):
    text = CASE.replace('kind = "fourier"\nn = 1\nlength = 1.0', 'kind = "finite_volume"\nn = 6\nend = 1.2').replace(
        'kind = "cylinder", centre = [1.2, 0.95, 0.0], radius = 0.3',
        'kind = "box", lower = [0.9, 0.0, 0.6], upper = [1.5, 1.0, 0.8]',
    )
    (tmp_path / "case.toml").write_text(text)
    out = tmp_path / "run"
    assert runs.solver("run", tmp_path, "--out", out, "--steps", 2, "--quiet", "--set", "output.snapshot=9.0").code == 0
    bodies, scene = solids.bodies_of(out), []
    assert bodies.plane == 3
    solids.add_bodies(SimpleNamespace(add_mesh=lambda mesh, **_: scene.append(mesh)), out)  # as `solver view` does
    (body,) = scene
    assert body.n_cells == bodies.solid.sum() > 4
    assert body.bounds == pytest.approx((0.9, 1.5, 0.0, 1.0, 0.6, 0.8), abs=0.25)  # to a cell
    figure = solids.plot_solids(Results(out, {}))
    values = np.ravel(figure.axes[0].collections[0].get_array())
    last = snapshot.latest_snapshot(out)
    np.testing.assert_allclose(values, np.sqrt((last.velocity[:, :, :, 3] ** 2).sum(0)).T.ravel(), atol=1e-6)


def test_nothing_without_solids(tmp_path):
    assert solids.plot_solids(Results(tmp_path, {})) is None
    (tmp_path / "case.toml").write_text(runs.CASE)
    assert solids.plot_solids(Results(tmp_path, {})) is None


def test_averages_in_one_line():
    found = {"c_d": 1.3641, "c_d_ci95": 0.0012, "strouhal": 0.16521, "strouhal_ci95": 0.0003}
    assert solids.averages(found) == r"$C_d = 1.364 \pm 0.001$,   $St = 0.1652 \pm 0.0003$"
    assert solids.averages({"force_x": -21.337, "force_x_ci95": 0.004}) == "$F_x = -21.34$"
