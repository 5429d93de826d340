"""Profiles of the other flows: whatever columns there are, and the cavity against Ghia et al. (1982)."""

from __future__ import annotations

import re

import numpy as np
from matplotlib.figure import Figure

from solver.figures.results import Results, Table, half_width
from solver.figures.style import BLUE, PALETTE, curve, points, sheet

COORDINATES = ("y", "x", "z", "r")
CENTRE_LINES = {"u_centreline", "v_centreline", "x", "y"}
SYMBOLS = {"uv": r"\langle u'v'\rangle", "tke": "k", "nu_t": r"\nu_t", "tau_sgs": r"\langle\tau_{12}\rangle"}


def plot_profiles(results: Results) -> Figure | None:
    """Return every profile of a flow that is neither channel nor cavity, means and rms grouped, or None."""
    profiles = results.table("profiles")
    if profiles is None or "u_plus" in profiles or profiles.keys() >= CENTRE_LINES:
        return None
    coordinate = next((name for name in COORDINATES if name in profiles), None)
    groups = _groups(profiles)
    if coordinate is None or not groups:
        return None
    columns = 2 if len(groups) == 4 else min(len(groups), 3)
    rows = -(-len(groups) // columns)
    figure, panels = sheet(rows, columns, height=2.7 * rows, width=max(3.6, 2.4 * columns))
    for axes, names in zip(panels.flat, groups, strict=False):
        for name, colour in zip(names, PALETTE, strict=False):
            curve(
                axes,
                profiles[coordinate],
                profiles[name],
                half_width(profiles, name),
                color=colour,
                label=symbol(name),
            )
        axes.set(xlabel=f"${coordinate}$", ylabel=", ".join(symbol(name) for name in names))
        if len(names) > 1:
            axes.legend()
    for axes in panels.flat[len(groups) :]:
        axes.remove()
    return figure


def plot_cavity(results: Results) -> Figure | None:
    """Return both centre-line profiles of the lid-driven cavity (lid velocity 1, side 1), or None."""
    profiles = results.table("profiles")
    if profiles is None or not profiles.keys() >= CENTRE_LINES:
        return None
    figure, ((vertical, horizontal),) = sheet(1, 2, height=3.2)
    curve(vertical, profiles["u_centreline"], profiles["y"], color=BLUE, label="this run")
    curve(horizontal, profiles["x"], profiles["v_centreline"], color=BLUE, label="this run")
    if found := _ghia(results, "cavity_u", "u"):
        coordinate, values, label = found
        points(vertical, values, coordinate, label=label)
    if found := _ghia(results, "cavity_v", "v"):
        coordinate, values, label = found
        points(horizontal, coordinate, values, label=label)
    vertical.set(xlabel="$u(x=1/2,\\,y)/U$", ylabel="$y/L$", ylim=(0, 1))
    vertical.margins(x=0.05)
    horizontal.set(xlabel="$x/L$", ylabel="$v(x,\\,y=1/2)/U$", xlim=(0, 1))
    vertical.legend(loc="lower right")
    return figure


def symbol(name: str) -> str:
    r"""Return column `name` as mathematics where its form is known, as words otherwise.

    Examples
    --------
    >>> symbol("u_rms"), symbol("momentum_thickness")
    ('$u_{\\mathrm{rms}}$', 'momentum thickness')
    """
    if name in SYMBOLS:
        return f"${SYMBOLS[name]}$"
    if found := re.fullmatch(r"([uvwp])_(mean|rms)", name):
        quantity, statistic = found.groups()
        return rf"$\langle {quantity}\rangle$" if statistic == "mean" else rf"${quantity}_{{\mathrm{{rms}}}}$"
    return f"${name}$" if len(name) == 1 else name.replace("_", " ")


def _groups(profiles: Table) -> list[list[str]]:
    """Return the columns by panel: means together, rms together, any other column on its own."""
    names = [
        name
        for name, column in profiles.items()
        if name not in COORDINATES and not name.endswith("_ci95") and column.dtype.kind == "f"
    ]
    shared = [[name for name in names if name.endswith(suffix)] for suffix in ("_mean", "_rms")]
    return [group for group in shared if group] + [[n] for n in names if not n.endswith(("_mean", "_rms"))]


def _ghia(results: Results, role: str, component: str) -> tuple[np.ndarray, np.ndarray, str] | None:
    """Return coordinate, velocity and label of the tabulated Reynolds number that is the run's, or None."""
    table = results.reference_table(role)
    if table is None:
        return None
    tabulated = {float(name.split("_Re")[1]): name for name in table if name.startswith(f"{component}_Re")}
    reynolds = results.reynolds
    if reynolds in tabulated:
        coordinate = table["y" if component == "u" else "x"]
        return coordinate, table[tabulated[reynolds]], f"{results.citation(role)}, Re = {reynolds:g}"
    return None
