"""Several runs in one picture: what is more vortical has more ink, and a run without snapshots is named."""

from __future__ import annotations

import json

import numpy as np
import pytest

from solver.errors import FeatureUnavailable, RunFolderError
from solver.figures import side_by_side
from solver.figures.vortices import require_rendering
from tests.compare.test_boxes import box_points, write_snapshot


@pytest.fixture
def runs(tmp_path):
    """A Taylor-Green vortex, and one with a tenth of its speed."""
    points = box_points(24)
    x, y, z = np.meshgrid(*points, indexing="ij")
    velocity = np.stack([np.sin(x) * np.cos(y) * np.cos(z), -np.cos(x) * np.sin(y) * np.cos(z), 0 * x])
    for name, speed in (("strong", 1.0), ("weak", 0.1)):
        write_snapshot(tmp_path / name, speed * velocity, 1.0, points)
        (tmp_path / name / "summary.json").write_text(json.dumps({"closure": name}))
    return tmp_path / "strong", tmp_path / "weak"


@pytest.mark.slow
def test_one_level_for_all(runs, monkeypatch):
    monkeypatch.setattr(side_by_side, "WINDOW", (400, 300))
    try:
        require_rendering(off_screen=True)
    except FeatureUnavailable as reason:
        pytest.skip(str(reason))
    grids = [side_by_side._grid(side_by_side._latest(run)) for run in runs]
    assert grids[1]["Q"] == pytest.approx(0.01 * grids[0]["Q"], rel=1e-5, abs=1e-9)
    level = float(np.quantile(grids[0]["Q"], 1 - side_by_side.VORTEX_SHARE))
    strong, weak = (side_by_side._picture(grid, level, (-0.5, 0.5)) for grid in grids)
    coloured = [(np.ptp(pixels.astype(int), axis=2) > 40).mean() for pixels in (strong, weak)]
    assert coloured[0] > 0.005
    assert coloured[1] == 0
    picture = side_by_side.view_side_by_side(runs)
    assert picture == runs[0] / "figures" / "vortices_side_by_side.png"
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_pictures_are_cut_alike():
    blank = np.full((50, 60, 3), 255, dtype=np.uint8)
    one, other = blank.copy(), blank.copy()
    one[20:24, 30:33], other[28:30, 40:42] = 0, 0
    cut = side_by_side._cropped([one, other])
    assert cut[0].shape == cut[1].shape == (34, 36, 3)
    assert (cut[0] == 0).any()
    assert (cut[1] == 0).any()


def test_a_run_without_snapshots_is_named(runs, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(RunFolderError, match=r"empty: no snapshot to draw: set \[output\] snapshot"):
        side_by_side.view_side_by_side([*runs, empty])
