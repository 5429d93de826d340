"""Pictures of a comparison, each with its words: error bars, profiles, cost against error."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from closures.compare.channels import ROWS, ChannelJudge
from closures.compare.layer_figures import layers
from closures.compare.looks import SPACING, cited, dot, key, legend_columns, look, names, shown_members
from closures.compare.spectral_figures import decay, increments, spectra
from closures.compare.subgrid_figure import subgrid
from closures.compare.verdicts import Comparison, Judged
from solver.analysis.metrics import Metric
from solver.figures.style import GREY, curve, paper, points, sheet

PROFILE_LABELS = (
    r"$U/U_b$",
    r"$u_{\mathrm{rms}}/U_b$",
    r"$v_{\mathrm{rms}}/U_b$",
    r"$w_{\mathrm{rms}}/U_b$",
    r"$-\langle u'v'\rangle/U_b^2$",
)


@dataclass(frozen=True)
class Picture:
    """A figure as SVG for the report, with what someone who cannot see it should know."""

    name: str
    title: str
    alt: str
    svg: bytes
    png: bytes

    @property
    def data_uri(self) -> str:
        """To be embedded."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg).decode("ascii")


def draw(comparison: Comparison) -> list[Picture]:
    """Every picture that the comparison has data for."""
    plots: tuple[tuple[str, str, Callable[[Comparison], tuple[Figure, str] | None]], ...] = (
        ("errors", "Errors with 95 % intervals", errors),
        ("profiles", "Profiles", profiles),
        ("subgrid", "What the closures carry and drain", subgrid),
        ("layers", "Mixing layers", layers),
        ("spectra", "Spectra", spectra),
        ("decay", "Energy in time", decay),
        ("increments", "Velocity increments", increments),
        ("cost", "Cost against error", cost),
        *((m.name, m.meaning, m.figure) for m in comparison.metrics if m.figure is not None),
    )
    pictures = []
    for name, title, plot in plots:
        with paper():
            if (found := plot(comparison)) is not None:
                figure, alt = found
                pictures.append(Picture(name, title, alt, _bytes(figure, "svg"), _bytes(figure, "png")))
    return pictures


def _bytes(figure: Figure, form: str) -> bytes:
    buffer = io.BytesIO()
    metadata = {"Date": None} if form == "svg" else None  # the same data give the same file
    figure.savefig(buffer, format=form, metadata=metadata)
    return buffer.getvalue()


def errors(comparison: Comparison) -> tuple[Figure, str] | None:
    """One row of dots a quantity, one colour a member; the floor of the reference is shaded."""
    shown, metrics = shown_members(comparison), comparison.metrics
    if not shown or not metrics:
        return None
    groups = [g for g in (_in_unit(metrics, "%"), _in_unit(metrics, "decades")) if g]
    heights = [len(g) for g in groups]
    rows = sum(heights)
    labels = [j.member.label for _, j in shown]
    legend = 0.22 * len(labels) / legend_columns(labels)
    height = 1.0 + legend + 0.075 * rows * (len(shown) + 2.5)
    figure, panels = sheet(len(groups), 1, height, letters=False, height_ratios=heights)
    for (axes,), columns in zip(panels, groups, strict=True):
        _dots(axes, comparison, shown, columns)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=legend_columns(labels))
    best = [
        f"{metrics[c].label}: {min(shown, key=lambda s: _error(s[1], c))[1].member.label}" for c in range(len(metrics))
    ]
    return figure, f"Errors of {names(shown)} with 95 % intervals. Smallest for " + "; ".join(best) + "."


def _in_unit(metrics: Sequence[Metric], unit: str) -> list[int]:
    return [i for i, q in enumerate(metrics) if q.unit == unit]


def _error(judged: Judged, column: int) -> float:
    assert judged.errors is not None
    return float(judged.errors.value[column])


def _dots(axes: Axes, comparison: Comparison, shown: Sequence[tuple[int, Judged]], columns: Sequence[int]) -> None:
    offsets = 0.62 * (np.arange(len(shown)) / max(len(shown) - 1, 1) - 0.5)
    metrics = [comparison.metrics[c] for c in columns]
    for row, q in enumerate(metrics):
        if q.floor:
            label = "references disagree" if row == 0 else None
            axes.barh(row, q.scale * q.floor, height=0.85, color=GREY, alpha=0.35, linewidth=0, label=label)
    for (i, judged), offset in zip(shown, offsets, strict=True):
        assert judged.errors is not None
        scale = np.array([q.scale for q in metrics])
        value = judged.errors.value[columns] * scale
        width = np.nan_to_num(judged.errors.half_width[columns] * scale)
        axes.errorbar(
            value,
            np.arange(len(columns)) + offset,
            xerr=width,
            **dot(i),
            elinewidth=1.0,
            label=judged.member.label,
        )
    axes.set(
        yticks=range(len(columns)),
        yticklabels=[q.printed for q in metrics],
        xlabel=f"error  [{metrics[0].unit}]",
        ylim=(len(columns) - 0.5, -0.5),
    )
    axes.set_xlim(0, 1.05 * axes.dataLim.x1)
    for row in range(1, len(columns)):
        axes.axhline(row - 0.5, color="0.9", linewidth=0.6)
    axes.tick_params(axis="y", which="both", left=False, right=False)
    axes.grid(axis="x", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def profiles(comparison: Comparison) -> tuple[Figure, str] | None:
    """Mean velocity, fluctuations and shear stress in bulk units over the half channel."""
    judge, shown = comparison.judge, shown_members(comparison)
    if not isinstance(judge, ChannelJudge) or not shown:
        return None
    figure, panels = sheet(2, 3, height=4.9)
    y = judge.channel.distance / judge.channel.half_height
    for i, judged in shown:
        found = judge.profiles(judged.member)
        for row, axes in enumerate(panels.flat[: len(ROWS)]):
            sign = -1.0 if ROWS[row] == "uv" else 1.0
            width = None if np.isnan(found.half_width[row]).all() else found.half_width[row]
            curve(axes, y, sign * found.value[row], width, label=judged.member.label, **look(i))
    for row, axes in enumerate(panels.flat[: len(ROWS)]):
        name = ROWS[row]
        fine = judge.table.table["y_over_h"]
        truth = judge.table.profile(name, fine) / judge.table.bulk ** (2 if name == "uv" else 1)
        points(axes, fine, -truth if name == "uv" else truth, every=SPACING)
        axes.set(xlim=(0, 1), xlabel="$y/h$", ylabel=PROFILE_LABELS[row])
        axes.set_ylim(bottom=0)
    key(panels.flat[0], panels.flat[len(ROWS)], comparison)
    return figure, (
        f"Five panels: mean velocity, three fluctuations and Reynolds shear stress over wall distance for "
        f"{names(shown)}, in units of the bulk velocity with 95 % bands, and {cited(comparison)} as symbols."
    )


def cost(comparison: Comparison) -> tuple[Figure, str] | None:
    """Core seconds for a unit of time against the leading error."""
    shown = [(i, j) for i, j in shown_members(comparison) if np.isfinite(j.cost.core_seconds_per_unit)]
    if not shown or not comparison.metrics:
        return None
    leading = comparison.metrics[0]
    figure, ((axes,),) = sheet(1, 1, height=3.2, width=4.8)
    for i, judged in shown:
        assert judged.errors is not None
        width = np.nan_to_num(judged.errors.half_width[0])
        axes.errorbar(
            judged.cost.core_seconds_per_unit,
            leading.scale * judged.errors.value[0],
            yerr=leading.scale * width,
            **dot(i),
            markersize=5,
            label=judged.member.label,
        )
    if leading.floor:
        axes.axhspan(0, leading.scale * leading.floor, color=GREY, alpha=0.3, linewidth=0, label="references disagree")
    unit = comparison.unit.replace("h/u_tau", r"$h/u_\tau$")
    axes.set(xlabel=f"core seconds a {unit}", ylabel=f"error, {leading.printed}  [{leading.unit}]")
    dearest = max(j.cost.core_seconds_per_unit for _, j in shown)
    axes.set_xlim(0, 1.15 * dearest)
    axes.set_ylim(bottom=0)
    axes.legend(loc="best")
    numbers = [
        f"{j.member.label}: {j.cost.core_seconds_per_unit:.3g}, {leading.scale * _error(j, 0):.3g}" for _, j in shown
    ]
    return figure, (
        f"Core seconds a {comparison.unit} and error of {leading.label} [{leading.unit}]. " + "; ".join(numbers) + "."
    )
