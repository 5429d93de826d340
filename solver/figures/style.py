"""House style of the figures: colours, line widths, bands, and writing a picture all or nothing."""

from __future__ import annotations

import string
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from solver.files.folder import write_atomically

DPI = 180
WIDTH = 7.0  # inches: two columns of a journal page

# Okabe & Ito (2008), distinguishable with any colour vision; black is kept for reference data.
BLUE, VERMILLION, GREEN = "#0072B2", "#D55E00", "#009E73"
PURPLE, ORANGE, SKY = "#CC79A7", "#E69F00", "#56B4E9"
PALETTE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
GREY = "0.6"

PAPER: dict[Any, Any] = {
    "text.usetex": False,  # nobody should need a TeX installation on a cluster
    "font.family": "STIXGeneral",
    "mathtext.fontset": "stix",
    "font.size": 9.5,
    "axes.labelsize": 10.5,
    "axes.linewidth": 0.7,
    "axes.xmargin": 0.0,
    "lines.linewidth": 1.4,
    "lines.markersize": 3.4,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.handlelength": 1.8,
    "legend.labelspacing": 0.3,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.top": True,
    "ytick.right": True,
    "xtick.minor.visible": True,
    "ytick.minor.visible": True,
    "axes.formatter.use_mathtext": True,
    "axes.formatter.limits": (-3, 4),
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.07,
    "figure.constrained_layout.h_pad": 0.05,
    "savefig.dpi": DPI,
    "pdf.fonttype": 42,  # TrueType: journals refuse the other kind
}

# Reference data: open black symbols, thinned so that they do not hide the run.
REFERENCE: dict[str, Any] = {
    "color": "black",
    "linestyle": "none",
    "markerfacecolor": "none",
    "markeredgewidth": 0.7,
    "zorder": 3,
}


def paper() -> AbstractContextManager[None]:
    """Return the context in which figures are made and saved; the caller's rcParams come back on exit."""
    return matplotlib.rc_context(PAPER)


def sheet(
    rows: int, columns: int, height: float, width: float = WIDTH, letters: bool = True, **share: Any
) -> tuple[Figure, np.ndarray]:
    """Return a figure of `width` x `height` inches, free of pyplot, and its `(rows, columns)` axes."""
    figure = Figure(figsize=(width, height))
    panels = figure.subplots(rows, columns, squeeze=False, **share)
    if letters and panels.size > 1:
        for letter, axes in zip(string.ascii_lowercase, panels.flat, strict=False):
            axes.set_title(f"({letter})", loc="left", fontsize=9.5, pad=4)
    return figure, panels


def curve(axes: Axes, x: np.ndarray, y: np.ndarray, ci95: np.ndarray | None = None, **style: Any) -> None:
    """Draw a line of the run, with its 95 % band `y - ci95 .. y + ci95` shaded when there is one."""
    (line,) = axes.plot(x, y, **style)
    if ci95 is not None:
        axes.fill_between(x, y - ci95, y + ci95, color=line.get_color(), alpha=0.22, linewidth=0)


def points(
    axes: Axes,
    x: np.ndarray,
    y: np.ndarray,
    marker: str = "o",
    label: str | None = None,
    every: int | float = 1,
) -> None:
    """Draw reference data as open black symbols; a fractional `every` spaces them evenly on the paper."""
    axes.plot(x, y, marker=marker, label=label, markevery=every, **REFERENCE)


def reference_key(axes: Axes, citation: str) -> None:
    """Add one legend entry for the reference symbols of all curves in `axes`."""
    axes.plot([], [], marker="o", label=f"symbols: {citation}", **REFERENCE)


def wide_enough(limits: Iterable[float], least: float) -> tuple[float, float]:
    """Return `limits` opened symmetrically to a span of at least `least`: round-off is not magnified."""
    low, high = limits
    middle, half = (low + high) / 2, max(high - low, least) / 2
    return middle - half, middle + half


def headroom(axes: Axes, share: float = 0.3) -> None:
    """Leave that share of the height above the curves to the legend."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + share * (high - low))


def save(figure: Figure, path: Path) -> Path:
    """Write `figure` to the PNG or PDF file `path` and return `path`; equal figures are equal files."""
    kind = path.suffix[1:]
    undated = {"CreationDate": None} if kind == "pdf" else None
    write_atomically(path, lambda partial: figure.savefig(partial, format=kind, metadata=undated))
    return path
