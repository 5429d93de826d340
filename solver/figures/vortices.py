"""Three-dimensional picture of a snapshot: vortices as Q isosurfaces, over the streaks near a wall."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from solver.errors import FeatureUnavailable
from solver.figures.qcriterion import q_criterion
from solver.figures.snapshot import Snapshot, latest_snapshot
from solver.figures.solids import add_bodies
from solver.figures.style import WIDTH, paper, save, sheet

if TYPE_CHECKING:
    import pyvista

COLOURS: Final = "viridis"
VORTEX_SHARE = 0.04  # of the points drawn lie inside the isosurfaces
STREAK_HEIGHT = 12.0  # y+ of the plane of streaks, where u_rms peaks
WINDOW = [2400, 1800]  # pixels
MARGIN = 12  # pixels left around the picture when its white border is cut
PROBE = "import pyvista; p = pyvista.Plotter(off_screen=True); p.add_mesh(pyvista.Sphere()); p.screenshot()"
PROBE_SECONDS = 120


def view(run: Path, out: Path | None = None, interactive: bool = False) -> Path | None:
    """Draw the vortices of the latest snapshot.

    Parameters
    ----------
    run : run folder with `snapshots/*.h5`.
    out : PNG to write; by default `figures/vortices.png` in the run folder.
    interactive : open a window instead of writing a file.

    Returns
    -------
    Path | None : the file written; None for a window, or when the run has no snapshot.

    Raises
    ------
    FeatureUnavailable : pyvista is missing or cannot draw on this machine.
    """
    snapshot = latest_snapshot(Path(run))
    if snapshot is None:
        return None
    require_rendering(off_screen=not interactive)
    plotter, level, u_range = _scene(snapshot, off_screen=not interactive)
    add_bodies(plotter, Path(run))
    try:
        if interactive:
            plotter.show()
            return None
        pixels = np.asarray(plotter.screenshot(return_img=True))
    finally:
        plotter.close()
    return _compose(pixels, level, u_range, snapshot.time, out or Path(run) / "figures" / "vortices.png")


def require_rendering(off_screen: bool) -> None:
    """Raise FeatureUnavailable, naming the remedy, unless pyvista can draw here."""
    try:
        import pyvista  # noqa: F401
    except ImportError as error:
        raise FeatureUnavailable("3-D pictures need pyvista: pip install pyvista") from error
    if off_screen and not _renders_off_screen():
        raise FeatureUnavailable(
            "pyvista cannot render off-screen here: install an EGL or OSMesa driver "
            "(apt-get install libegl1 libosmesa6) or run under xvfb-run"
        )
    if not (off_screen or sys.platform != "linux" or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()):
        raise FeatureUnavailable("an interactive view needs a display: log in with ssh -X, or view without a window")


@cache
def _renders_off_screen() -> bool:
    """Try in a child process: without an OpenGL driver VTK does not raise, it dies by SIGSEGV."""
    try:
        child = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, timeout=PROBE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return False
    return child.returncode == 0


def _scene(snapshot: Snapshot, off_screen: bool) -> tuple[pyvista.Plotter, float, tuple[float, float]]:
    """Return the plotter with its scene, Q on the surfaces, and the range of u coloured on them."""
    import pyvista
    from vtkmodules.vtkCommonCore import vtkLogger

    vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_ERROR)  # it warns "bad X server", then falls back to EGL
    plotter = pyvista.Plotter(off_screen=off_screen, window_size=WINDOW)
    shown = snapshot.half_height() if snapshot.has_walls else snapshot
    q = q_criterion(snapshot.velocity, snapshot.x, snapshot.y, snapshot.z)[:, : len(shown.y)]
    level = float(np.quantile(q, 1 - VORTEX_SHARE))
    grid = pyvista.RectilinearGrid(shown.x, shown.y, shown.z)
    grid["Q"] = q.ravel(order="F")
    grid["u"] = shown.velocity[0].ravel(order="F")
    vortices = grid.contour([level], scalars="Q")
    low, high = np.quantile(vortices["u"] if vortices.n_points else shown.velocity[0], [0.01, 0.99])
    if vortices.n_points:
        plotter.add_mesh(
            vortices,
            scalars="u",
            cmap=COLOURS,
            clim=(low, high),
            smooth_shading=True,
            ambient=0.2,
            specular=0.2,
            show_scalar_bar=not off_screen,
        )
    if snapshot.has_walls:
        _add_streaks(plotter, snapshot)
    plotter.add_mesh(grid.outline(), color="black", line_width=1.5)
    plotter.background_color = pyvista.Color("white")
    _aim(plotter, grid, from_above=snapshot.has_walls)
    return plotter, level, (low, high)


def _add_streaks(plotter: pyvista.Plotter, snapshot: Snapshot) -> None:
    """Add u' at y+ = STREAK_HEIGHT in greys, drawn on the wall below."""
    import pyvista

    mean = snapshot.velocity[0].mean(axis=(0, 2))
    u_tau = np.sqrt(snapshot.nu * abs(mean[1] - mean[0]) / (snapshot.y[1] - snapshot.y[0]))
    height = snapshot.y[0] + (STREAK_HEIGHT * snapshot.nu / u_tau if u_tau > 0 else 0.0)
    j = int(np.abs(snapshot.y - height).argmin())
    plane = pyvista.RectilinearGrid(snapshot.x, snapshot.y[:1], snapshot.z)
    plane["streaks"] = (snapshot.velocity[0, :, j] - mean[j]).ravel(order="F")
    reach = 2.5 * plane["streaks"].std()
    plotter.add_mesh(
        plane,
        scalars="streaks",
        cmap="gray",
        clim=(-1.5 * reach, reach),
        lighting=False,
        show_scalar_bar=False,
    )


def _compose(pixels: np.ndarray, level: float, u_range: tuple[float, float], time: float, path: Path) -> Path:
    """Set the rendered picture, its white border cut, with a colour bar in the type of the other figures."""
    inked = np.any(pixels < 255, axis=2)
    rows, columns = (np.flatnonzero(inked.any(axis=axis)) for axis in (1, 0))
    (top, bottom), (left, right) = rows[[0, -1]], columns[[0, -1]]
    pixels = pixels[max(top - MARGIN, 0) : bottom + MARGIN, max(left - MARGIN, 0) : right + MARGIN]
    with paper():
        height = min(0.9 + 0.95 * WIDTH * pixels.shape[0] / pixels.shape[1], 0.9 * WIDTH)
        figure, ((axes,),) = sheet(1, 1, height=height)
        axes.imshow(pixels)
        axes.set_axis_off()
        bar = figure.colorbar(
            ScalarMappable(Normalize(*u_range), COLOURS),
            ax=axes,
            orientation="horizontal",
            shrink=0.4,
            aspect=28,
            pad=0.01,
        )
        bar.set_label(f"$u$ on $Q={level:.3g}$,   $t={time:.4g}$")
        return save(figure, path)


def _aim(plotter: pyvista.Plotter, grid: pyvista.RectilinearGrid, from_above: bool) -> None:
    """Look downstream from above, y upwards, flow from left to right."""
    direction = np.array([-0.45, 0.85, 1.0]) if from_above else np.array([0.9, 0.6, 1.2])
    plotter.camera_position = [tuple(np.array(grid.center) + grid.length * direction), grid.center, (0, 1, 0)]
    plotter.reset_camera()  # type: ignore[call-arg]  # pyvista wraps it, and mypy misses its self
    plotter.enable_anti_aliasing("ssaa")
