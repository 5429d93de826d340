"""What the pictures of a comparison share: who is shown, in which colour, under which name."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import Any

from matplotlib.axes import Axes

from closures.compare.verdicts import Comparison, Judged
from solver.figures.style import PALETTE, reference_key

DASHES = ("-", "--", "-.", ":")  # a line is told apart by colour and, beyond the palette, by dashes
MARKERS = "osD^vP"
LINE = 90  # characters across a figure
KEY = 30  # characters across a legend that has a panel to itself
SPACING = 0.05  # of reference symbols, as a fraction of the panel's diagonal


def look(i: int) -> dict[str, Any]:
    """Colour and dashes of the i-th member, the same in every figure."""
    return {"color": PALETTE[i % len(PALETTE)], "linestyle": DASHES[i // len(PALETTE) % len(DASHES)]}


def dot(i: int) -> dict[str, Any]:
    """Colour and marker of the i-th member; hollow beyond the palette."""
    hollow = {} if i < len(PALETTE) else {"markerfacecolor": "white"}
    return {"color": PALETTE[i % len(PALETTE)], "fmt": MARKERS[i % len(MARKERS)]} | hollow


def legend_columns(labels: Sequence[str]) -> int:
    """As many as fit above a figure of the usual width."""
    return max(1, min(len(labels), 5, LINE // (max(map(len, labels)) + 6)))


def shown_members(comparison: Comparison) -> list[tuple[int, Judged]]:
    """Sound members with errors, each with its place in the comparison."""
    return [(i, j) for i, j in enumerate(comparison.members) if j.errors is not None and not j.member.broken]


def names(shown: Sequence[tuple[int, Judged]]) -> str:
    """Their labels, for alternative texts."""
    return ", ".join(j.member.label for _, j in shown)


def cited(comparison: Comparison) -> str:
    """Who made the reference."""
    return comparison.target.citation if comparison.target else "no reference"


def key(source: Axes, place: Axes, comparison: Comparison) -> None:
    """The legend of a sheet in the panel that is left over."""
    reference_key(source, fill(cited(comparison), KEY))
    handles, labels = source.get_legend_handles_labels()
    place.set_axis_off()
    place.set_title("", loc="left")
    place.legend(handles, labels, loc="center", fontsize=9.5)
