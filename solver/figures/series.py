"""Histories: what the run did in time, and the Taylor-Green dissipation against DNS."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from solver.figures.results import Results, Table
from solver.figures.style import BLUE, GREEN, PALETTE, VERMILLION, curve, sheet, wide_enough

# Label, columns and their legend, logarithmic or not: one panel each. Other columns get a panel of their own.
PANELS = (
    (r"$Re_\tau$", {"re_tau": ""}, False),
    ("kinetic energy", {"kinetic_energy": ""}, False),
    ("energy of fluctuations", {"fluctuation_energy": ""}, False),
    ("residual", {"residual_trust": "of the equations", "momentum_imbalance": "of mean momentum"}, False),
    ("distance from known flows", {"familiarity": ""}, False),
    ("dissipation", {"dissipation": "viscous", "sgs_dissipation": "subgrid"}, False),
    ("bulk velocity", {"bulk_velocity": ""}, False),
    (r"$u_\tau$", {"u_tau": ""}, False),
    ("mean forcing", {"forcing": ""}, False),
    ("largest velocity", {"max_velocity": ""}, False),
    ("CFL number", {"cfl": ""}, False),
    ("time step", {"dt": ""}, False),
    (r"$\max|\nabla\cdot\mathbf{u}|$", {"max_divergence": ""}, True),
)
LEAST_SPAN = 1e-3  # relative: a bulk velocity held to round-off is drawn as the straight line it is


def plot_history(results: Results) -> Figure | None:
    """Return one panel per quantity of `timeseries.csv` over time, the averaging window shaded, or None."""
    series = results.table("timeseries")
    if series is None or "time" not in series:
        return None
    panels = _panels(series)
    if not panels:
        return None
    rows = -(-len(panels) // 2)
    figure, grid = sheet(rows, 2, height=0.5 + 1.3 * rows, letters=False, sharex=True)
    start = series["time"][-1] - (results.summary.get("averaging_time") or 0)
    for axes, (label, columns, logarithmic) in zip(grid.flat, panels, strict=False):
        for (name, legend), colour in zip(columns.items(), PALETTE, strict=False):
            curve(axes, series["time"], series[name], color=colour, label=legend, linewidth=1.0)
        first, last = np.nanmin(series["time"]), np.nanmax(series["time"])
        axes.set(ylabel=label, xlim=wide_enough((first, last), LEAST_SPAN * (abs(last) or 1.0)))
        _scale(axes, logarithmic)
        if len(columns) > 1:
            low, high = axes.get_ylim()
            axes.set_ylim(min(low, 0), 1.35 * high)  # zero in sight, and room for the legend
            axes.legend(ncols=2, loc="upper right")
        axes.axvspan(start, series["time"][-1], color="0.93", zorder=0, linewidth=0)
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    for axes in grid.flat[max(len(panels) - 2, 0) : len(panels)]:
        axes.set_xlabel("time  $t$")
        axes.tick_params(labelbottom=True)
    figure.align_ylabels()
    return figure


def plot_dissipation(results: Results) -> Figure | None:
    """Return energy and its rate of loss in the Taylor-Green vortex, against DNS where given, or None."""
    series = results.table("timeseries")
    dns = results.reference_table("dissipation")
    if series is None or not {"time", "kinetic_energy"} <= series.keys() or len(series["time"]) < 3:
        return None
    if dns is None and "taylor" not in str(results.summary.get("case", "")):
        return None
    figure, ((energy, loss),) = sheet(1, 2, height=3.1)
    if dns:
        citation = results.citation("dissipation")
        rate = dns["dissipation_dEdt"] if "dissipation_dEdt" in dns else dns["dissipation"]
        energy.plot(dns["t"], dns["kinetic_energy"], "k--", linewidth=1.1, zorder=3)
        loss.plot(
            dns["t"],
            rate,
            "k--",
            linewidth=1.1,
            zorder=3,
            label="DNS" if citation == "reference" else f"DNS, {citation}",
        )
    curve(energy, series["time"], series["kinetic_energy"], color=BLUE)
    curve(loss, series["time"], loss_rate(series), color=BLUE, label=r"$-\mathrm{d}E/\mathrm{d}t$")
    for name, colour, label in (
        ("dissipation", VERMILLION, r"viscous $\varepsilon$"),
        ("sgs_dissipation", GREEN, r"subgrid $\varepsilon_{\mathrm{sgs}}$"),
    ):
        if name in series:
            curve(loss, series["time"], series[name], color=colour, label=label, linewidth=1.0)
    for axes, label in ((energy, r"kinetic energy  $E\;[U^2]$"), (loss, r"loss of energy  $[U^3/L]$")):
        axes.set(xlim=(0, series["time"][-1]), xlabel="$t\\,U/L$", ylabel=label)
    energy.set_ylim(bottom=0)
    loss.legend()
    return figure


def loss_rate(series: Table) -> np.ndarray:
    """Return -dE/dt [velocity^2/time] at the sampled times, by second-order differences of unequal steps."""
    return -np.gradient(series["kinetic_energy"], series["time"], edge_order=2)


def _scale(axes: Axes, logarithmic: bool) -> None:
    """Set whole decades for positive logarithmic data, else limits that do not magnify round-off."""
    values = np.concatenate([line.get_ydata() for line in axes.lines])
    positive = values[(values > 0) & np.isfinite(values)]  # a diverged run ends in inf or NaN
    if logarithmic and positive.size:
        decades = np.log10([positive.min(), positive.max()])
        axes.set(yscale="log", ylim=(10 ** np.floor(decades[0] - 0.1), 10 ** np.ceil(decades[1] + 0.1)))
        axes.yaxis.set_minor_formatter("")
    else:
        axes.set_ylim(wide_enough(axes.get_ylim(), LEAST_SPAN * np.abs(axes.get_ylim()).max()))


def _panels(series: Table) -> list[tuple[str, dict[str, str], bool]]:
    """Return the panels that have data, known quantities first, then the columns only this flow has."""
    known = {name for _, columns, _ in PANELS for name in columns} | {"step", "time"}
    found = [(label, {n: c for n, c in columns.items() if n in series}, log) for label, columns, log in PANELS]
    others = [
        (name.replace("_", " "), {name: ""}, False)
        for name in series
        if name not in known and series[name].dtype.kind == "f"
    ]
    return [panel for panel in found if panel[1]] + others
