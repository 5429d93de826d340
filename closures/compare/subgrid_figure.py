"""Picture of what the closures of a channel comparison carry and drain; it explains errors and is not one itself."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from closures.compare.channels import ChannelJudge
from closures.compare.looks import cited, legend_columns, look, names, shown_members
from closures.compare.verdicts import Comparison
from solver.figures.style import curve, points, sheet
from solver.figures.subgrid import SHARE, WORKS

LABELS = (f"share of shear, {SHARE}", *(f"{label}  $[u_\\tau^4/\\nu]$" for _, label, _ in WORKS))


def subgrid(comparison: Comparison) -> tuple[Figure, str] | None:
    """Share of the turbulent shear stress, and work on the mean flow and on fluctuations, over y+ of the reference."""
    judge, shown = comparison.judge, shown_members(comparison)
    if not isinstance(judge, ChannelJudge):
        return None
    profiles = [(i, judged, judge.subgrid_profiles(judged.member)) for i, judged in shown]
    if not any(np.nan_to_num(found.value).any() for *_, found in profiles):
        return None
    labels = [judged.member.label for _, judged in shown]
    figure, panels = sheet(1, 3, height=2.9 + 0.22 * len(labels) / legend_columns(labels))
    y_plus = judge.channel.distance / judge.channel.half_height * judge.table.re_tau
    told = []
    for i, judged, found in profiles:
        for axes, value, width in zip(panels.flat, found.value, found.half_width, strict=True):
            band = None if np.isnan(width).all() else width
            curve(axes, y_plus, value, band, label=judged.member.label, **look(i))
        share, mean, fluctuation = judge.subgrid(judged.member).value
        told.append(f"{judged.member.label} {100 * share:.3g}, {100 * mean:.3g}, {100 * fluctuation:.3g}")
    reference = judge.subgrid_of_reference()
    for axes, label, row in zip(panels.flat, LABELS, [None] * 3 if reference is None else reference, strict=True):
        if row is not None and np.isfinite(row).any():
            points(axes, _heights(judge), row, label=cited(comparison) if axes is panels[0, 0] else None)
        axes.axhline(0, color="black", linewidth=0.5)
        axes.set(xscale="log", xlim=(1, 1.1 * y_plus[-1]), xlabel="$y^+$", ylabel=label)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=legend_columns(labels))
    return figure, (
        f"Three panels over wall distance for {names(shown)}: share of the subgrid in the turbulent shear stress, and "
        "the work of the subgrid stress on the mean flow and on fluctuations. In per cent, share at y+ = 15 and both "
        f"works as parts of what the resolved flow loses: {'; '.join(told)}."
    )


def _heights(judge: ChannelJudge) -> np.ndarray:
    """y+ of the rows of a filtered reference."""
    channel = judge.target.channel
    assert channel is not None
    return channel.distance / channel.half_height * judge.table.re_tau
