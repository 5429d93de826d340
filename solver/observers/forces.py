"""What the flow does to the solids in it: forces step by step, drag and lift coefficients, the shedding frequency."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from solver.case.solid_tables import CoefficientsTable
from solver.flow.simulation import Simulation

Array = NDArray[np.float64]
STEADY = 1e-4  # a lift that varies less than so many drags does not oscillate


class Forces:
    """Total force on all solids, the mean over each step, per unit density.

    It is the momentum that the discrete equations take from the fluid at the faces of solids, so that fluid, solids,
    walls and drive balance to round-off. With a driving pressure gradient g it includes what that does to the solids,
    g times their volume. Where solids stand on walls of the box, the force normal to these depends on the constant
    that pressure leaves open.

    Parameters
    ----------
    start : means are taken from this time on.
    coefficients : units of c_d, c_l and the Strouhal number, None for plain forces.
    """

    name = "forces"

    def __init__(self, start: float, coefficients: CoefficientsTable | None) -> None:
        self.start, self.units = start, coefficients
        self.rows: list[tuple[float, ...]] = []
        self.latest = (np.nan, np.nan, np.nan)

    def __call__(self, simulation: Simulation) -> None:
        """Record the step (collective)."""
        impulse = simulation.state.impulse
        assert impulse is not None
        x, y, z = (simulation.operators.decomposition.sum(impulse) / simulation.dt).tolist()
        self.latest = (x, y, z)
        self.rows.append((simulation.t, *self.latest))

    @property
    def scale(self) -> float:
        """``velocity^2 area / 2``."""
        return 0.5 * self.units.velocity**2 * self.units.area if self.units else 1.0

    @property
    def columns(self) -> dict[str, Callable[[], float]]:
        """What ``timeseries.csv`` says about the last step."""
        found: dict[str, Callable[[], float]] = {
            f"force_{name}": lambda i=i: self.latest[i]  # type: ignore[misc]  # bound here
            for i, name in enumerate("xyz")
        }
        if self.units:
            found["c_d"] = lambda: self.latest[0] / self.scale
            found["c_l"] = lambda: self.latest[1] / self.scale
        return found

    def summary(self) -> dict[str, Any]:
        """Means from `start` on, over whole periods of the lift where it oscillates, with 95 % half widths."""
        table = np.array(self.rows).reshape(-1, 4)
        span = np.diff(table[:, 0], prepend=0.0)
        late = table[:, 0] >= self.start
        table, span = table[late], span[late]
        if len(table) < 2:
            return {}
        t, drag, lift = table[:, 0], table[:, 1] / self.scale, table[:, 2] / self.scale
        names = ("c_d", "c_l") if self.units else ("force_x", "force_y")
        mean, rms = moments(drag, span)[0], moments(lift, span)[1]
        beats = upward_crossings(t, lift - moments(lift, span)[0])
        if len(beats) < 3 or rms < STEADY * abs(mean):
            return {names[0]: mean, f"{names[1]}_rms": rms, "averaging_time": float(span.sum())}
        edges = np.searchsorted(t, beats)
        whole = slice(edges[0], edges[-1])
        frequency, width = frequency_of(beats)
        unit = self.units.length / self.units.velocity if self.units else 1.0
        return {
            names[0]: moments(drag[whole], span[whole])[0],
            f"{names[0]}_ci95": half_width(period_means(drag, span, edges)),
            f"{names[1]}_rms": moments(lift[whole], span[whole])[1],
            f"{names[1]}_max": float(lift[whole].max()),
            "strouhal" if self.units else "frequency": unit * frequency,
            "strouhal_ci95" if self.units else "frequency_ci95": unit * width,
            "periods": len(beats) - 1,
            "averaging_time": float(beats[-1] - beats[0]),
        }

    def state(self) -> dict[str, Array]:
        """All rows."""
        return {"rows": np.array(self.rows).reshape(-1, 4)}

    def restore(self, state: dict[str, Array]) -> None:
        """Continue from `state`."""
        self.rows = [tuple(row) for row in state["rows"].tolist()]


def moments(values: Array, span: Array) -> tuple[float, float]:
    """Time mean of steps of the given lengths, and the root mean square about it."""
    mean = float(np.average(values, weights=span))
    return mean, float(np.sqrt(np.average((values - mean) ** 2, weights=span)))


def period_means(values: Array, span: Array, edges: NDArray[np.intp]) -> Array:
    """Time means between successive edges."""
    last = edges[-1]
    sums, times = (np.add.reduceat(f[:last], edges[:-1]) for f in (values * span, span))
    return sums / times


def half_width(samples: Array) -> float:
    """95 % half width of the mean of samples taken to be independent."""
    n = len(samples)
    return float(stdtrit(n - 1, 0.975) * samples.std(ddof=1) / np.sqrt(n))


def upward_crossings(t: Array, signal: Array) -> Array:
    """Times at which a signal of zero mean rises through zero, having been well below it before."""
    threshold, armed, found = -0.5 * float(signal.std()), False, []
    for k in range(1, len(t)):
        armed = armed or bool(signal[k - 1] < threshold)
        if armed and signal[k - 1] < 0 <= signal[k]:
            found.append(t[k - 1] - signal[k - 1] * (t[k] - t[k - 1]) / (signal[k] - signal[k - 1]))
            armed = False
    return np.array(found)


def frequency_of(beats: Array) -> tuple[float, float]:
    """Frequency of events and its 95 % half width, from the scatter of the intervals."""
    intervals = np.diff(beats)
    mean = float(intervals.mean())
    return 1.0 / mean, half_width(intervals) / mean**2
