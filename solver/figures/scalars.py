"""Scalars of a channel against a reference: mean, fluctuations, and the fluxes along and across the stream."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from solver.figures.results import Results, Table, half_width
from solver.figures.style import BLUE, GREEN, VERMILLION, curve, points, sheet

SPACING = 0.05  # of reference symbols, as a fraction of the panel's diagonal


def plot_scalars(results: Results) -> Figure | None:
    """Return three panels a scalar, in wall units over the wall distance; None for flows without scalars."""
    told = results.summary.get("scalars") or {}
    tables = {name: table for name in told if (table := results.table(f"scalar_{name}")) is not None}
    if not tables:
        return None
    figure, panels = sheet(len(tables), 3, height=2.7 * len(tables))
    for (name, table), row in zip(tables.items(), panels, strict=True):
        reference = results.reference_table(f"scalar {name}")
        flux = results.reference_table(f"scalar {name} flux")
        citation = results.citation(f"scalar {name}") if reference else ""
        _mean(row[0], name, table, reference, citation)
        _fluctuations(row[1], name, table, reference)
        _fluxes(row[2], table, reference, flux)
    return figure


def _mean(axes: Axes, name: str, table: Table, reference: Table | None, citation: str) -> None:
    curve(axes, table["y_plus"], table["s_plus"], half_width(table, "s_plus"), color=BLUE, label="this run")
    if reference:
        points(axes, reference["y_plus"], reference["T_plus"], label=citation, every=SPACING)
    axes.set(xscale="log", xlim=(0.5, 1.1 * table["y_plus"].max()), xlabel="$y^+$", ylabel=f"{name}: mean")
    axes.legend(loc="upper left")


def _fluctuations(axes: Axes, name: str, table: Table, reference: Table | None) -> None:
    curve(axes, table["y_plus"], table["s_rms_plus"], half_width(table, "s_rms_plus"), color=BLUE)
    if reference:
        points(axes, reference["y_plus"], reference["T_rms_plus"], every=SPACING)
    axes.set(xlim=(0, table["y_plus"].max()), xlabel="$y^+$", ylabel=f"{name}: rms")
    axes.set_ylim(bottom=0)


def _fluxes(axes: Axes, table: Table, reference: Table | None, flux: Table | None) -> None:
    across, along = r"$-\langle v's'\rangle^+$", r"$\langle u's'\rangle^+/10$"
    curve(axes, table["y_plus"], -table["vs_plus"], half_width(table, "vs_plus"), color=VERMILLION, label=across)
    curve(axes, table["y_plus"], 0.1 * table["us_plus"], color=GREEN, label=along)
    if flux:
        points(axes, flux["y_plus"], flux["minus_vT_plus"], "s", every=SPACING)
    if reference:
        points(axes, reference["y_plus"], 0.1 * reference["uT_plus"], "^", every=SPACING)
    axes.set(xlim=(0, table["y_plus"].max()), xlabel="$y^+$")
    axes.legend(loc="upper right")
