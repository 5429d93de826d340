"""Shell spectra E(k) of a periodic box against DNS or experiment."""

from __future__ import annotations

import re

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from solver.figures.results import Results, Table
from solver.figures.style import BLUE, GREY, curve, points, sheet

TIMES = 5
SAME_TIME = 0.05  # relative
SPACING = 0.03  # of reference symbols, as a fraction of the panel's diagonal


def plot_spectra(results: Results) -> Figure | None:
    """Return E(k) at a few times, or the later half's average where the reference is one, or None."""
    spectra = results.table("spectra")
    if spectra is None or not {"k", "E"} <= spectra.keys():
        return None
    dns = results.reference_table("spectra")
    citation = results.citation("spectra") if dns else ""
    figure, ((axes,),) = sheet(1, 1, height=3.6, width=4.6)
    times = np.unique(spectra["time"]) if "time" in spectra else np.zeros(1)
    frames = [{name: spectra[name][_at(spectra, time)] for name in ("k", "E")} for time in times]
    if dns and "E_mean" in dns:
        _stationary(axes, frames[len(frames) // 2 :])
        points(axes, dns["k"], dns["E_mean"], label=citation, every=SPACING)
    else:
        shown = np.unique(np.linspace(0, len(times) - 1, TIMES).round().astype(int))
        shades = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.85, len(shown)))
        for index, shade in zip(shown, shades, strict=True):
            k, energy = frames[index]["k"], frames[index]["E"]
            curve(axes, k[k > 0], energy[k > 0], color=shade, label=f"$t={times[index]:.3g}$")
        for k, energy, label in _reference_shells(dns, times[shown], citation) if dns else []:
            points(axes, k, energy, label=label, every=SPACING)
    _five_thirds(axes, frames[-1])
    axes.set(xscale="log", yscale="log", xlabel="wavenumber  $k$", ylabel="$E(k)$")
    axes.legend(loc="lower left")
    return figure


def _stationary(axes: Axes, frames: list[Table]) -> None:
    energy = np.stack([frame["E"] for frame in frames])
    k, positive = frames[0]["k"], frames[0]["k"] > 0
    low, mean, high = energy.min(0)[positive], energy.mean(0)[positive], energy.max(0)[positive]
    axes.fill_between(k[positive], low, high, color=BLUE, alpha=0.22, linewidth=0, label="range in time")
    curve(axes, k[positive], mean, color=BLUE, label="this run, time average")


def _five_thirds(axes: Axes, frame: Table) -> None:
    """Draw the inertial slope above all spectra, over the middle of the range; keep the run's limits."""
    k, energy = frame["k"][frame["k"] > 0], frame["E"][frame["k"] > 0]
    inertial = k[(k >= 3) & (k <= k[-1] / 2)]
    if inertial.size > 1:
        run = [np.array(line.get_data()) for line in axes.lines if line.get_linestyle() == "-"]
        level = 1.5 * max((np.interp(inertial, k_run, e_run) * inertial ** (5 / 3)).max() for k_run, e_run in run)
        axes.plot(inertial, level * inertial ** (-5 / 3), "--", color=GREY, linewidth=0.9, label="$k^{-5/3}$")
    axes.set(xlim=(0.9 * k[0], 1.1 * k[-1]), ylim=(max(0.3 * energy.min(), 1e-12 * energy.max()), None))


def _reference_shells(dns: Table, times: np.ndarray, citation: str) -> list[tuple[np.ndarray, np.ndarray, str | None]]:
    """Return (k, E, label) of the tabulated spectra; of `E_t<time>` columns those at the times shown."""
    k = next(iter(dns.values()))
    timed = {float(found[1]): name for name in dns if (found := re.fullmatch(r"E_t([\d.]+)", name))}
    if timed:
        nearest = {min(timed, key=lambda tabulated: abs(tabulated - time)): time for time in times}
        names = [timed[t] for t, time in nearest.items() if abs(t - time) <= SAME_TIME * max(time, t)]
    else:
        names = [name for name in dns if name.startswith("E")]
    labels = [citation] + [None] * len(names)
    return [(k[k > 0], dns[name][k > 0], label) for name, label in zip(names, labels, strict=False)]


def _at(spectra: Table, time: float) -> np.ndarray:
    return spectra["time"] == time if "time" in spectra else np.ones(len(spectra["k"]), dtype=bool)
