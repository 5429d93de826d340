"""Vortices of several runs side by side: one level of Q, one range of colours, one camera."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from solver.errors import RunFolderError
from solver.figures.qcriterion import q_criterion
from solver.figures.results import Results
from solver.figures.snapshot import Snapshot, latest_snapshot
from solver.figures.style import WIDTH, paper, save, sheet
from solver.figures.vortices import COLOURS, VORTEX_SHARE, require_rendering

if TYPE_CHECKING:
    import pyvista

WINDOW = (1600, 1200)  # pixels of one run
COLUMNS = 2
BORDER = 12  # pixels kept around what is drawn


def view_side_by_side(runs: Sequence[Path], out: Path | None = None, interactive: bool = False) -> Path | None:
    """Draw the latest snapshot of each run; Q and u are coloured alike, so that more vortices are more vortices.

    The level of Q is the one inside which `VORTEX_SHARE` of the points of the first run lie.

    Parameters
    ----------
    runs : run folders with `snapshots/*.h5`.
    out : PNG to write; by default `vortices_side_by_side.png` in the `figures` of the first run.
    interactive : open a window, whose views turn together, instead of writing a file.

    Returns
    -------
    Path | None : the file written; None for a window.

    Raises
    ------
    RunFolderError : a run without snapshots.
    FeatureUnavailable : pyvista is missing or cannot draw on this machine.
    """
    snapshots = [_latest(Path(run)) for run in runs]
    require_rendering(off_screen=not interactive)
    grids = [_grid(snapshot) for snapshot in snapshots]
    level = float(np.quantile(grids[0]["Q"], 1 - VORTEX_SHARE))
    low, high = np.quantile(grids[0]["u"], [0.01, 0.99])
    u_range = float(low), float(high)
    labels = [_label(Path(run), snapshot) for run, snapshot in zip(runs, snapshots, strict=True)]
    if interactive:
        _window(grids, labels, level, u_range)
        return None
    pictures = _cropped([_picture(grid, level, u_range) for grid in grids])
    return _compose(pictures, labels, level, u_range, out or Path(runs[0]) / "figures" / "vortices_side_by_side.png")


def _latest(run: Path) -> Snapshot:
    snapshot = latest_snapshot(run)
    if snapshot is None:
        raise RunFolderError(f"{run}: no snapshot to draw: set [output] snapshot in the case and run it again")
    return snapshot


def _label(run: Path, snapshot: Snapshot) -> str:
    return f"{Results(run, {}).summary.get('closure', run.name)},  $t={snapshot.time:.4g}$"


def _grid(snapshot: Snapshot) -> pyvista.RectilinearGrid:
    """Q and u at the points of a snapshot; of a channel the lower half, which the upper wall would hide."""
    import pyvista

    shown = snapshot.half_height() if snapshot.has_walls else snapshot
    q = q_criterion(snapshot.velocity, snapshot.x, snapshot.y, snapshot.z)[:, : len(shown.y)]
    grid = pyvista.RectilinearGrid(shown.x, shown.y, shown.z)
    grid["Q"], grid["u"] = q.ravel(order="F"), shown.velocity[0].ravel(order="F")
    return grid


def _draw(plotter: pyvista.Plotter, grid: pyvista.RectilinearGrid, level: float, u_range: tuple[float, float]) -> None:
    """One run into the active view."""
    import pyvista

    vortices = grid.contour([level], scalars="Q")
    if vortices.n_points:
        plotter.add_mesh(
            vortices,
            scalars="u",
            cmap=COLOURS,
            clim=u_range,
            smooth_shading=True,
            ambient=0.2,
            specular=0.2,
            show_scalar_bar=False,
        )
    plotter.add_mesh(grid.outline(), color="black", line_width=2)
    plotter.background_color = pyvista.Color("white")
    direction = np.array([-0.45, 0.85, 1.0]) if len(set(np.diff(grid.y).round(6))) > 1 else np.array([0.9, 0.6, 1.2])
    plotter.camera_position = [tuple(np.array(grid.center) + grid.length * direction), grid.center, (0, 1, 0)]
    plotter.reset_camera()  # type: ignore[call-arg]  # pyvista wraps it, and mypy misses its self
    plotter.enable_anti_aliasing("ssaa")


def _quiet() -> None:
    """VTK warns "bad X server", then falls back to EGL."""
    from vtkmodules.vtkCommonCore import vtkLogger

    vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_ERROR)


def _window(
    grids: Sequence[pyvista.RectilinearGrid], labels: Sequence[str], level: float, u_range: tuple[float, float]
) -> None:
    import pyvista

    _quiet()
    plotter = pyvista.Plotter(shape=(1, len(grids)))
    for i, (grid, label) in enumerate(zip(grids, labels, strict=True)):
        plotter.subplot(0, i)
        _draw(plotter, grid, level, u_range)
        plotter.add_text(label.replace("$", ""), font_size=10, color="black")
    plotter.link_views()
    plotter.show()


def _picture(grid: pyvista.RectilinearGrid, level: float, u_range: tuple[float, float]) -> np.ndarray:
    import pyvista

    _quiet()
    plotter = pyvista.Plotter(off_screen=True, window_size=list(WINDOW))
    try:
        _draw(plotter, grid, level, u_range)
        return np.asarray(plotter.screenshot(return_img=True))
    finally:
        plotter.close()


def _cropped(pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """All pictures cut to the one rectangle in which any of them has ink: the scale stays the same."""
    inked = np.any([np.any(pixels < 255, axis=2) for pixels in pictures], axis=0)
    rows, columns = (np.flatnonzero(inked.any(axis=axis)) for axis in (1, 0))
    top, left = max(rows[0] - BORDER, 0), max(columns[0] - BORDER, 0)
    return [pixels[top : rows[-1] + 1 + BORDER, left : columns[-1] + 1 + BORDER] for pixels in pictures]


def _compose(
    pictures: Sequence[np.ndarray], labels: Sequence[str], level: float, u_range: tuple[float, float], path: Path
) -> Path:
    """The pictures in rows of `COLUMNS`, with their labels and one colour bar."""
    columns = min(len(pictures), COLUMNS)
    rows = -(-len(pictures) // columns)
    aspect = pictures[0].shape[0] / pictures[0].shape[1]
    with paper():
        figure, panels = sheet(rows, columns, height=0.8 + rows * (0.3 + WIDTH / columns * aspect), letters=False)
        for axes in panels.flat:
            axes.set_axis_off()
        for axes, pixels, label in zip(panels.flat, pictures, labels, strict=False):
            axes.imshow(pixels)
            axes.set_title(label, fontsize=9.5, pad=3)
        mappable = ScalarMappable(Normalize(*u_range), COLOURS)
        bar = figure.colorbar(mappable, ax=panels, orientation="horizontal", shrink=0.4, aspect=32, pad=0.02)
        bar.set_label(f"$u$ on $Q={level:.3g}$")
        return save(figure, path)
