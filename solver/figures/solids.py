"""Flow around solids: a plane through them, and what they feel in time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from solver.case.case import load_case
from solver.figures.qcriterion import derivative
from solver.figures.results import Results, Table
from solver.figures.snapshot import Snapshot, latest_snapshot
from solver.figures.style import BLUE, VERMILLION, WIDTH, curve, sheet
from solver.grid.axis import FiniteVolumeAxis

if TYPE_CHECKING:
    import pyvista

AHEAD, BEHIND, ASIDE = 3.0, 15.0, 3.5  # sizes of a body shown around it
VIVID = 0.97  # share of the points of the window whose vorticity the colours tell apart
BODY = "#8c8c8c"
PAIRS = ((("c_d", "$C_d$"), ("c_l", "$C_l$")), (("force_x", "$F_x$"), ("force_y", "$F_y$")))


@dataclass(frozen=True)
class Bodies:
    """The solid cells of a run, `(nx, ny, nz)`, and the faces of its cells; z of a plane flow has none."""

    solid: np.ndarray
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray | None

    @property
    def centres(self) -> tuple[np.ndarray, np.ndarray]:
        """Of the cells along x and y."""
        return 0.5 * (self.x[1:] + self.x[:-1]), 0.5 * (self.y[1:] + self.y[:-1])

    @property
    def plane(self) -> int:
        """Index along z of the plane that cuts most solid cells, the middle one of several."""
        area = self.solid.sum(axis=(0, 1))
        largest = np.flatnonzero(area == area.max())
        return int(largest[len(largest) // 2])

    def window(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """The part of x and y worth showing: all of it, unless the bodies are small in it."""
        i, j = (np.flatnonzero(self.solid.any(axis=other)) for other in ((1, 2), (0, 2)))
        (left, right), (low, high) = self.x[[i[0], i[-1] + 1]], self.y[[j[0], j[-1] + 1]]
        size = high - low
        return (
            (max(left - AHEAD * size, self.x[0]), min(right + BEHIND * size, self.x[-1])),
            (max(low - ASIDE * size, self.y[0]), min(high + ASIDE * size, self.y[-1])),
        )


def bodies_of(run: Path) -> Bodies | None:
    """Return the solids of the case that a run folder holds, or None where it has none."""
    if not (run / "case.toml").is_file():
        return None
    case, folder = load_case(run)
    grid = case.build_grid()
    solids = case.build_solids(grid, folder)
    if solids is None or not isinstance(grid.x, FiniteVolumeAxis) or not isinstance(grid.y, FiniteVolumeAxis):
        return None
    return Bodies(solids.solid, grid.x.faces, grid.y.faces, getattr(grid.z, "faces", None))


def plot_solids(results: Results) -> Figure | None:
    """Return vorticity (plane flow) or speed around the solids, and drag and lift over time, or None."""
    bodies = bodies_of(results.run)
    if bodies is None:
        return None
    snapshot, series = latest_snapshot(results.run), results.table("timeseries")
    pair = _pair(series)
    if snapshot is None and pair is None:
        return None
    heights = []
    if snapshot is not None:
        (x0, x1), (y0, y1) = bodies.window()
        heights.append(min(0.82 * WIDTH * (y1 - y0) / (x1 - x0), 0.8 * WIDTH) + 0.45)
    if pair is not None:
        heights.append(2.1)
    figure, panels = sheet(len(heights), 1, height=sum(heights), gridspec_kw={"height_ratios": heights})
    rest = list(panels[:, 0])
    if snapshot is not None:
        _draw_plane(rest.pop(0), bodies, snapshot)
    if pair is not None and series is not None:
        _draw_forces(rest.pop(0), series, pair, results.summary)
    return figure


def add_bodies(plotter: pyvista.Plotter, run: Path) -> None:
    """Add the surfaces of a run's solids to a scene in space, if it has any."""
    import pyvista

    bodies = bodies_of(run)
    if bodies is None or bodies.z is None:
        return
    cells = pyvista.RectilinearGrid(bodies.x, bodies.y, bodies.z)
    cells.cell_data["solid"] = bodies.solid.ravel(order="F").astype(np.uint8)
    plotter.add_mesh(cells.threshold(0.5, scalars="solid"), color=BODY, show_edges=False, show_scalar_bar=False)


def _pair(series: Table | None) -> tuple[tuple[str, str], ...] | None:
    """The columns of drag and lift, as coefficients where there are such."""
    if series is None:
        return None
    return next((pair for pair in PAIRS if all(name in series for name, _ in pair)), None)


def _draw_plane(axes: Axes, bodies: Bodies, snapshot: Snapshot) -> None:
    """Colour one x-y plane, linear between the centres of cells; solids are grey cells."""
    k, window = bodies.plane, bodies.window()
    u, v, w = (f[:, :, k].astype(float) for f in snapshot.velocity)
    solid = bodies.solid[:, :, k]
    style: dict[str, Any]
    if len(snapshot.z) == 1:
        values = derivative(v, snapshot.x, 0, False) - derivative(u, snapshot.y, 1, False)
        inside = [(line >= low) & (line <= high) for line, (low, high) in zip(bodies.centres, window, strict=True)]
        reach = float(np.quantile(np.abs(values[np.ix_(*inside)]), VIVID))
        label, style = r"$\omega_z$", {"cmap": "RdBu_r", "vmin": -reach, "vmax": reach}
    else:
        values = np.sqrt(u**2 + v**2 + w**2)
        label, style = r"$|\mathbf{u}|$", {"cmap": "viridis", "vmin": 0.0, "vmax": float(values.max())}
    image = axes.pcolormesh(snapshot.x, snapshot.y, values.T, shading="gouraud", rasterized=True, **style)
    body = np.ma.masked_array(np.ones_like(values), ~solid)
    axes.pcolormesh(bodies.x, bodies.y, body.T, cmap=ListedColormap([BODY]), rasterized=True)
    axes.set(xlim=window[0], ylim=window[1], aspect="equal", xlabel="$x$", ylabel="$y$")
    where = "" if len(snapshot.z) == 1 else f",  $z={snapshot.z[k]:.3g}$"
    axes.set_title(f"$t={snapshot.time:.4g}${where}", fontsize=9.5, pad=4)
    bar = axes.figure.colorbar(image, ax=axes, label=label, pad=0.015, aspect=18)
    bar.ax.minorticks_off()


def _draw_forces(axes: Axes, series: Table, pair: tuple[tuple[str, str], ...], summary: Mapping[str, Any]) -> None:
    """Drag and lift; the time averaged over is shaded, and the averages are written there."""
    t = series["time"]
    for (name, label), colour in zip(pair, (BLUE, VERMILLION), strict=True):
        curve(axes, t, series[name], color=colour, label=label, linewidth=1.0)
    settled = t > t[0] + 0.1 * (t[-1] - t[0])  # the start may be violent
    values = np.concatenate([series[name][settled] for name, _ in pair])
    low, high = (float(f(values)) for f in (np.nanmin, np.nanmax))
    room = 0.08 * (high - low) or 1.0
    axes.set(xlim=(t[0], t[-1]), ylim=(low - room, high + 5 * room), xlabel="$t$")
    axes.legend(ncols=2, loc="upper left")
    found = summary.get("forces") or {}
    if "averaging_time" in found:
        axes.axvspan(t[-1] - found["averaging_time"], t[-1], color="0.93", zorder=0, linewidth=0)
        axes.text(0.985, 0.95, averages(found), transform=axes.transAxes, ha="right", va="top", fontsize=8.5)


def averages(forces: Mapping[str, float]) -> str:
    """Mean drag and the shedding frequency of a summary to four digits, with 95 % half widths that show there."""
    parts = []
    for name, symbol in (("c_d", "C_d"), ("force_x", "F_x"), ("strouhal", "St"), ("frequency", "f")):
        if forces.get(name):
            value, width = forces[name], forces.get(f"{name}_ci95", 0.0)
            decimals = max(0, 3 - math.floor(math.log10(abs(value))))
            band = rf" \pm {width:.{decimals}f}" if round(width, decimals) > 0 else ""
            parts.append(f"${symbol} = {value:.{decimals}f}{band}$")
    return ",   ".join(parts)
