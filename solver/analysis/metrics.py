"""Metrics: what a flow is judged by, each a value; and those of flows along walls.

A metric measures how far a flow is from its reference. Its function takes what is known of both, as the judge of the
flow has it (`closures.compare`), and returns one number; nothing else has to know its name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Metric:
    """An error that can be smaller or larger.

    Parameters
    ----------
    name : in files.
    label : on terminals, in plain letters.
    meaning : in words.
    function : from what the judge of the flow sees (`closures.compare.channels.ChannelMeans`,
        `closures.compare.boxes.BoxInTime`, `closures.compare.layers.LayersInTime`) to the error.
    flow : whose it is: ``channel``, ``box`` or ``layers``; mixing layers are boxes as well.
    symbol : as papers print it; the label where it is empty.
    scale, unit : it is printed times `scale` in `unit`.
    floor : how far references of the same flow disagree on it; zero where only one is known.
    of_mean_flow : whether the mean flow alone decides it, so that a reference of the whole flow judges it on any grid.
    figure : draws it for a comparison, as the functions of `closures.compare.figures` do; None: among the others.
    """

    name: str
    label: str
    meaning: str
    function: Callable[[Any], float]
    flow: str = "channel"
    symbol: str = ""
    scale: float = 100.0
    unit: str = "%"
    floor: float = 0.0
    of_mean_flow: bool = False
    figure: Callable[[Any], Any] | None = None

    @property
    def printed(self) -> str:
        """Its symbol, or what stands for one."""
        return self.symbol or self.label

    def with_floor(self, floor: float) -> Metric:
        """The same with another floor."""
        return replace(self, floor=float(floor))


def _error(name: str) -> Callable[[Any], float]:
    return lambda flow: flow.errors[name]


U_MEAN = Metric("u_mean", "U", "mean velocity", _error("u_mean"), symbol="$U$", of_mean_flow=True)
U_RMS = Metric("u_rms", "u'", "streamwise fluctuation", _error("u_rms"), symbol="$u'$")
V_RMS = Metric("v_rms", "v'", "wall-normal fluctuation", _error("v_rms"), symbol="$v'$")
W_RMS = Metric("w_rms", "w'", "spanwise fluctuation", _error("w_rms"), symbol="$w'$")
UV = Metric("uv", "-uv", "Reynolds shear stress", _error("uv"), symbol=r"$-\langle u'v'\rangle$")
C_F = Metric("c_f", "C_f", "friction coefficient", _error("c_f"), symbol="$C_f$", of_mean_flow=True)

PROFILES = (U_MEAN, U_RMS, V_RMS, W_RMS, UV)  # relative L2 over the height, bulk units
WALL_FLOW = (*PROFILES, C_F)
