"""A square duct: the stress along its walls and the mean flow over a quarter of its section, against a reference."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from solver.figures.results import Results, Table, half_width
from solver.figures.style import BLUE, curve, points, sheet

SPACING = 0.03  # of reference symbols, as a fraction of the panel's diagonal
ARROWS = 12  # along each side
LEVELS = np.arange(0.1, 1.5, 0.1)  # of U / U_b


def plot_section(results: Results) -> Figure | None:
    """Return the stress along a wall, and U with the secondary flow, of run and reference; None for other flows."""
    stress, section = results.table("wall_stress"), results.table("section")
    if stress is None or section is None:
        return None
    reference = results.reference_table("section")
    figure, panels = sheet(1, 3 if reference else 2, height=2.7)
    _wall_stress(panels[0, 0], stress, reference, results.citation("section") if reference else "")
    _mean_flow(panels[0, 1], section, "this run")
    if reference:
        _mean_flow(panels[0, 2], reference, "reference")
    return figure


def _wall_stress(axes: Axes, table: Table, reference: Table | None, citation: str) -> None:
    curve(axes, table["z_over_h"], table["tau_over_mean"], half_width(table, "tau_over_mean"), color=BLUE, label="run")
    if reference:
        z, u, _, _ = on_lines(reference)
        tau = u[0] / np.trapezoid(np.r_[0.0, u[0], u[0, -1]], np.r_[0.0, z, 1.0])
        points(axes, z, tau, label=citation, every=SPACING)
    axes.set(xlim=(0, 1), xlabel="$z/h$", ylabel=r"$\tau_w/\langle\tau_w\rangle$")
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower right")


def _mean_flow(axes: Axes, table: Table, title: str) -> None:
    z, u, v, w = on_lines(table)
    contours = axes.contour(z, z, u, levels=LEVELS, cmap="viridis", linewidths=0.8)
    axes.clabel(contours, levels=LEVELS[::2], fontsize=6)
    at = np.linspace(z[0], z[-1], ARROWS)
    near = np.abs(z - at[:, None]).argmin(1)
    axes.quiver(z[near], z[near], w[np.ix_(near, near)], v[np.ix_(near, near)], scale=0.25, width=0.006)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="$z/h$", ylabel="$y/h$", title=f"$U/U_b$, {title}")


def on_lines(table: Table) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the places of the lines of a section, and U, V, W over y and z."""
    places = np.unique(table["y_over_h"])
    u, v, w = (table[name].reshape(len(places), len(places)) for name in "UVW")
    return places, u, v, w
