"""Pictures over scales and times: spectra of channels and boxes, decay of energy, increments."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from closures.compare.boxes import BoxJudge, Decay, series_decay
from closures.compare.channels import ChannelJudge
from closures.compare.fields import BINS, last_density
from closures.compare.looks import SPACING, cited, look, names, shown_members
from closures.compare.plane import COMPONENTS
from closures.compare.verdicts import Comparison, Judged
from solver.errors import RunFolderError
from solver.figures.style import GREY, curve, points, reference_key, sheet

TIMES = 4  # of box spectra
FAINTEST = 1e-12  # of the largest energy: what lies below is a flow that has died


def spectra(comparison: Comparison) -> tuple[Figure, str] | None:
    """Channels: E_uu, E_vv, E_ww along x and z on two planes. Boxes: E(k) at a few times."""
    if isinstance(comparison.judge, BoxJudge):
        return _shell_spectra(comparison, comparison.judge)
    judge, shown = comparison.judge, shown_members(comparison)
    if not isinstance(judge, ChannelJudge) or not judge.planes or not shown:
        return None
    rows = [(plane, d) for plane in judge.planes for d in plane.reference]
    figure, panels = sheet(len(rows), 3, height=0.6 + 2.0 * len(rows), sharex="row")
    for line, (plane, d) in zip(panels, rows, strict=True):
        for i, judged in shown:
            found = judge.spectra(judged.member, plane, d)
            if found is not None:
                k = plane.wavenumbers[d]
                for axes, value in zip(line, found.value, strict=True):
                    curve(axes, k[1:], value[1:], label=judged.member.label, **look(i))
        k_ref, energy = plane.reference[d]
        for axes, name, truth in zip(line, COMPONENTS, energy, strict=True):
            drawn = np.concatenate([np.asarray(line.get_ydata()) for line in axes.lines])
            points(axes, k_ref[k_ref > 0], truth[k_ref > 0], every=SPACING)
            limit = 1.3 * plane.wavenumbers[d][-1]
            inside = truth[(k_ref > 0) & (k_ref < limit)]
            _log_log(axes, f"$k_{d}h$")
            axes.set_xlim(0.9 * plane.wavenumbers[d][1], limit)
            everything = np.concatenate([drawn[drawn > 0], inside])
            axes.set_ylim(0.3 * max(everything.min(), FAINTEST * inside.max()), 3 * everything.max())
            axes.set_title(rf"$E_{{{name[2:]}}}/(U_b^2h)$,  $y^+={plane.y_plus:.0f}$", fontsize=9, pad=4)
    reference_key(panels[0, 0], cited(comparison))
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    heights = " and ".join(f"{plane.y_plus:.0f}" for plane in judge.planes)
    return figure, (
        f"Energy spectra of the three velocity components along x and z at y+ = {heights} for {names(shown)}, "
        f"log-log, with {cited(comparison)} as symbols."
    )


def _shell_spectra(comparison: Comparison, judge: BoxJudge) -> tuple[Figure, str] | None:
    shown = shown_members(comparison)
    if not judge.by_shells or not shown:
        return None
    truth = judge.truth
    times = np.linspace(truth.times[0], truth.times[-1], TIMES + 1)[1:]
    figure, panels = sheet(1, TIMES, height=2.9, sharey="row")
    for axes, t in zip(panels[0], times, strict=True):
        for i, judged in shown:
            ours = judge.decay(judged.member.sound[0])
            if ours.times[0] <= t <= ours.times[-1] * 1.001:
                curve(axes, ours.k, 10 ** ours.logs(np.array([t]))[0], label=judged.member.label, **look(i))
        points(axes, truth.k, 10 ** truth.logs(np.array([t]))[0], label=None)
        _log_log(axes, "$k$")
        axes.set_title(f"$t={t:.3g}$", fontsize=9.5, pad=4)
    panels[0, 0].set_ylabel("$E(k)$")
    reference_key(panels[0, 0], cited(comparison))
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return figure, (
        f"Shell energy spectra at {TIMES} times for {names(shown)}, log-log, with {cited(comparison)} as symbols."
    )


def decay(comparison: Comparison) -> tuple[Figure, str] | None:
    """Boxes: energy and its loss in time; without a reference too."""
    judge = comparison.judge
    members = [(i, j) for i, j in enumerate(comparison.members) if j.member.runs[0].case.build_grid().is_box]
    if not members:
        return None
    figure, panels = sheet(1, 2, height=3.0)
    for i, judged in members:
        if (ours := _in_time(judge, judged)) is None:
            continue
        finite = np.isfinite(ours.energy)
        for axes, value in zip(panels[0], (ours.energy, ours.rate), strict=True):
            curve(axes, ours.times[finite], value[finite], label=judged.member.label, **look(i))
    if isinstance(judge, BoxJudge):
        for axes, value in zip(panels[0], (judge.truth.energy, judge.truth.rate), strict=True):
            points(axes, judge.truth.times, value, every=SPACING)
        reference_key(panels[0, 0], cited(comparison))
    for axes, label in zip(panels[0], ("$E$", r"$-\mathrm{d}E/\mathrm{d}t$"), strict=True):
        axes.set(xlabel="$t$", ylabel=label)
        axes.set_ylim(bottom=0)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return figure, f"Resolved kinetic energy and its rate of loss in time for {names(members)}."


def _in_time(judge: ChannelJudge | BoxJudge | None, judged: Judged) -> Decay | None:
    """As it is judged, or what there is of a run that broke; None where that is next to nothing."""
    if isinstance(judge, BoxJudge) and judged.member.sound:
        return judge.decay(judged.member.sound[0])
    try:
        return series_decay((judged.member.sound or judged.member.runs)[0])
    except RunFolderError:
        return None


def increments(comparison: Comparison) -> tuple[Figure, str] | None:
    """Boxes: density of longitudinal increments over one cell at the end, where snapshots are kept."""
    members = [(i, j) for i, j in shown_members(comparison) if j.member.sound[0].case.build_grid().is_box]
    reference = comparison.target.run if comparison.target else None
    found = [(i, j.member.label, last_density(j.member.sound[0], reference)) for i, j in members]
    if not any(density for _, _, density in found):
        return None
    figure, ((axes,),) = sheet(1, 1, height=3.2, width=6.4)
    centres, words = 0.5 * (BINS[1:] + BINS[:-1]), []
    truth = last_density(reference, members[0][1].member.sound[0]) if reference else None
    for i, label, measured in [*found, (-1, cited(comparison), truth)]:
        if measured is None:
            continue
        density, (skewness, flatness) = measured
        seen = density > 0
        if i < 0:
            points(axes, centres[seen], density[seen], label=label)
        else:
            curve(axes, centres[seen], density[seen], label=label, **look(i))
        words.append(f"{label}: skewness {skewness:.2f}, flatness {flatness:.2f}")
    normal = np.exp(-(BINS**2) / 2) / np.sqrt(2 * np.pi)
    axes.plot(BINS, normal, color=GREY, linewidth=0.9, linestyle=":", label="normal")
    axes.set(yscale="log", xlabel=r"$\delta u\,/\,\sigma$", ylabel="density", ylim=(1e-5, 1))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center")
    return figure, "Density of longitudinal velocity increments at the end. " + "; ".join(words) + "."


def _log_log(axes: Axes, label: str) -> None:
    """Logarithmic axes with plain numbers along x."""
    axes.set(xscale="log", yscale="log", xlabel=label)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
