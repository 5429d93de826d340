"""One-dimensional energy spectra on planes of a channel against DNS."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from solver.figures.channel import COMPONENTS
from solver.figures.results import Results, Table
from solver.figures.style import curve, points, reference_key, sheet

PLANES = 3
SAME_PLANE = 0.3  # |ln(y/y_dns)| below which a plane of the table is shown with a plane of the run
SPACING = 0.05  # of reference symbols, as a fraction of the panel's diagonal


def normalised(k: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """Return E(k) / <u_i u_i> [length], the spectral density per unit variance of equally spaced modes.

    The same for tables of energy per mode (MKM) and per unit wavenumber, in any velocity scale: the level
    is compared by the rms profiles, the distribution over scales here. NaN where there is one wavenumber alone.
    """
    spacing = np.diff(np.unique(k))
    return energy / (energy.sum() * spacing.min()) if spacing.size else np.full(len(energy), np.nan)


def plot_spectra(results: Results) -> Figure | None:
    """Return one row of panels per direction and one column per plane, or None for other flows."""
    spectra = results.table("spectra")
    if spectra is None or not {"direction", "y", "k"} <= spectra.keys():
        return None
    waves = spectra["k"] > 0  # a mean alone has no place on a logarithmic axis
    directions = [name for name in ("x", "z") if (waves & (spectra["direction"] == name)).any()]
    if not directions:
        return None
    dns = {name: results.reference_table(f"spectra_{name}") for name in directions}
    tables = [name for name in directions if dns[name]]
    planes = _choose(np.unique(spectra["y"]), dns[tables[0]] if tables else None)
    figure, grid = sheet(
        len(directions),
        len(planes),
        height=0.6 + 2.4 * len(directions),
        width=1.0 + 2.1 * len(planes),
        sharey="row",
        sharex="row",
    )
    scale = results.wall_units_per_length
    for row, direction in zip(grid, directions, strict=True):
        for axes, y in zip(row, planes, strict=True):
            here = (spectra["direction"] == direction) & (spectra["y"] == y)
            plane = {name: column[here] for name, column in spectra.items()}
            _plane(axes, plane, _nearest(dns[direction], y), f"k_{direction}")
            axes.set_title(f"$y^+={y * scale:.0f}$" if scale else f"$y={y:.3g}$", fontsize=9.5, pad=4)
        row[0].set_ylabel(r"$E_{ii}\,/\,(\langle u_i'u_i'\rangle\,h)$")
        _limits(row)
    if tables:
        reference_key(grid[0, 0], results.citation(f"spectra_{tables[0]}"))
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return figure


def _plane(axes: Axes, plane: Table, dns: Table | None, wavenumber: str) -> None:
    """Draw the three spectra of one plane, the mean (k = 0) left out."""
    k = plane["k"]
    for name, colour, marker in COMPONENTS:
        column = f"E_{name}{name}"
        if column not in plane:
            continue
        curve(axes, k[k > 0], normalised(k, plane[column])[k > 0], color=colour, label=f"$E_{{{name}{name}}}$")
        if dns:
            k_dns = dns[f"{wavenumber}_h"]
            points(axes, k_dns[k_dns > 0], normalised(k_dns, dns[column])[k_dns > 0], marker, every=SPACING)
    axes.set(xscale="log", yscale="log", xlabel=f"${wavenumber}\\,h$")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")


def _limits(row: np.ndarray) -> None:
    """Give a row of panels the limits of the run's lines, so that the DNS tail beyond its cut-off is cut."""
    k, density = np.hstack([line.get_data() for axes in row for line in axes.lines if line.get_linestyle() == "-"])
    shown = np.isfinite(k) & np.isfinite(density) & (density > 0)
    k, density = k[shown], density[shown]
    if density.size:
        row[0].set(xlim=(0.9 * k.min(), 1.2 * k.max()), ylim=(0.5 * density.min(), 2 * density.max()))


def _choose(planes: np.ndarray, dns: Table | None) -> np.ndarray:
    """Return at most PLANES wall distances of the run, near those of the DNS table where there is one."""
    wanted = np.unique(dns["y_over_h"]) if dns else planes
    wanted = wanted[np.unique(np.linspace(0, len(wanted) - 1, PLANES).round().astype(int))]
    return np.unique([planes[np.abs(np.log(planes / y)).argmin()] for y in wanted])


def _nearest(dns: Table | None, y: float) -> Table | None:
    """Return the plane of the DNS table nearest to wall distance `y`, or None when none is near."""
    if dns is None:
        return None
    distance = np.abs(np.log(dns["y_over_h"] / y))
    if distance.min() > SAME_PLANE:
        return None
    return {name: column[distance == distance.min()] for name, column in dns.items()}
