"""Picture of mixing layers: momentum thickness in time, and Reynolds stresses across a layer."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from closures.compare.layers import DIFFERENCE, LayerJudge
from closures.compare.looks import SPACING, cited, key, look, names, shown_members
from closures.compare.verdicts import Comparison
from solver.figures.style import curve, points, sheet

LABELS = (r"\langle u'u'\rangle", r"\langle v'v'\rangle", r"\langle w'w'\rangle", r"-\langle u'v'\rangle")


def layers(comparison: Comparison) -> tuple[Figure, str] | None:
    """Momentum thickness in time, and the four stresses at the last time that everyone has."""
    judge, shown = comparison.judge, shown_members(comparison)
    if not isinstance(judge, LayerJudge) or not shown:
        return None
    figure, panels = sheet(2, 3, height=4.7)
    growth, *across = panels.flat[:5]
    truth = judge.layers(shown[0][1].member.sound[0])[1]
    last = np.array([min(judge.settled(judged.member.sound[0])[0].times[-1] for _, judged in shown)])
    ends = [f"reference {truth.at(last).thickness.mean():.3g}"]
    for i, judged in shown:
        ours, _ = judge.layers(judged.member.sound[0])
        curve(growth, ours.times, ours.thickness.mean(1), label=judged.member.label, **look(i))
        ends.append(f"{judged.member.label} {ours.at(last).thickness.mean():.3g}")
        for axes, stress in zip(across, ours.at(last).stresses[0], strict=True):
            curve(axes, ours.distance, stress / DIFFERENCE**2, **look(i))
    points(growth, truth.times, truth.thickness.mean(1))
    growth.set(xlabel="$t$", ylabel=r"$\theta$")
    growth.set_ylim(bottom=0)
    for axes, label, stress in zip(across, LABELS, truth.at(last).stresses[0], strict=True):
        points(axes, truth.distance, stress / DIFFERENCE**2, every=SPACING)
        axes.set(xlabel="$y-y_c$", ylabel=rf"${label}/\Delta U^2$")
        axes.set_title(f"$t={last[0]:.3g}$", fontsize=9, pad=4)
    key(growth, panels.flat[5], comparison)
    return figure, (
        f"Momentum thickness in time and, at t = {last[0]:.3g}, four Reynolds stresses across a layer, mean of "
        f"both layers, for {names(shown)}, with {cited(comparison)} as symbols. Momentum thickness at that time: "
        f"{'; '.join(ends)}."
    )
