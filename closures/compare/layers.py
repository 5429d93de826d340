"""What mixing layers are judged by: momentum thickness and Reynolds stresses, beside the energy of the box.

Two opposite layers, at L/4 and 3L/4 of a periodic box of height L, move with U = -+1: the velocity difference is 2.
Both the run and its reference are cut off sharply to the modes that both carry before anything is measured.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from scipy import fft
from scipy.integrate import trapezoid

from closures.compare.boxes import BoxInTime, BoxJudge
from closures.compare.fields import coefficients, common_modes, common_times, snapshots, velocity_of
from closures.compare.runs import Run
from solver.analysis.batch_means import Array
from solver.analysis.metrics import Metric
from solver.errors import CaseError, RunFolderError

DIFFERENCE = 2.0  # of the velocities on the two sides of a layer, as `solver.flow.initial.shear_layers` sets it
TRANSIENT = 0.25  # of the common time: before it there is little but the initial noise
REMEDY = "set the same [output] snapshot in both cases and run again"


@dataclass(frozen=True)
class Layers:
    """Two layers in time.

    ``distance`` (points,) is y from the centre of a layer; ``thickness`` (times, 2) has one column a layer;
    ``stresses`` (times, 4, points) are <u'u'>, <v'v'>, <w'w'> and -<u'v'>, mean of both layers.
    """

    times: Array
    distance: Array
    thickness: Array
    stresses: Array

    def at(self, t: Array) -> Layers:
        """The same at the times `t`, linear in between."""
        both = np.hstack([self.thickness, self.stresses.reshape(len(self.times), -1)])
        found = np.stack([np.interp(t, self.times, column) for column in both.T], axis=1)
        return Layers(t, self.distance, found[:, :2], found[:, 2:].reshape(len(t), *self.stresses.shape[1:]))


@dataclass(frozen=True)
class LayersInTime(BoxInTime):
    """What a metric of mixing layers sees: what one of a box does, and the layers of both at common times.

    Parameters
    ----------
    layers : those of the run and of the reference.
    """

    layers: tuple[Layers, Layers]

    @property
    def thickness(self) -> float:
        """Relative error of the momentum thickness."""
        ours, truth = self.layers
        return _relative(ours.thickness.mean(1), truth.thickness.mean(1))

    def stress(self, number: int) -> float:
        """Relative error of a Reynolds stress: uu, vv, ww, -uv."""
        ours, truth = self.layers
        return _relative(ours.stresses[:, number], truth.stresses[:, number])


def _stress(number: int, name: str, label: str, symbol: str, what: str) -> Metric:
    meaning = f"{what} over y and time, relative L2"
    return Metric(name, label, meaning, lambda seen: seen.stress(number), "layers", symbol=symbol)


PARTS = (
    Metric(
        "momentum_thickness",
        "theta(t)",
        "momentum thickness, mean of the two layers, in time, relative L2",
        lambda seen: seen.thickness,
        "layers",
        symbol=r"$\theta(t)$",
    ),
    _stress(0, "uu", "uu", r"$\langle u'u'\rangle$", "Reynolds stress <u'u'>"),
    _stress(1, "vv", "vv", r"$\langle v'v'\rangle$", "Reynolds stress <v'v'>"),
    _stress(2, "ww", "ww", r"$\langle w'w'\rangle$", "Reynolds stress <w'w'>"),
    _stress(3, "uv", "-uv", r"$-\langle u'v'\rangle$", "Reynolds shear stress -<u'v'>"),
)
METRICS = (
    Metric(
        "layers",
        "layers",
        "root mean square of the five errors that follow",
        lambda seen: float(np.sqrt(np.mean([part.function(seen) ** 2 for part in PARTS]))),
        "layers",
    ),
    *PARTS,
)


def profiles(c: Array, points: int) -> tuple[Array, Array]:
    """Mean velocity U (points,) and Reynolds stresses (4, points) over y of a field of coefficients `c`.

    u' is the deviation from the mean over x and z. These averages are sums over modes (Parseval), hence exact.
    """
    padded = np.zeros((3, c.shape[1], points, c.shape[3]), dtype=complex)
    highest = c.shape[2] // 2
    padded[:, :, np.r_[0 : highest + 1, -highest:0]] = c
    lines = fft.ifft(padded, axis=2, norm="forward")
    mean = lines[0, 0, :, 0].real.copy()
    lines[:, 0, :, 0] = 0.0
    u, v, w = lines
    stresses = [(a * np.conj(b)).real.sum((0, 2)) for a, b in ((u, u), (v, v), (w, w), (-u, v))]
    return mean, np.stack(stresses)


def momentum_thickness(mean: Array, spacing: float) -> float:
    """``theta = int (1/4 - (U / dU)^2) dy``, dU = 2, over one layer, both of its ends included (trapezoidal).

    Rogers & Moser (1994), Phys. Fluids 6, 903; Vreman, Geurts & Kuerten (1997), J. Fluid Mech. 339, 357, at constant
    density.
    """
    return float(trapezoid(0.25 - (mean / DIFFERENCE) ** 2, dx=spacing))


def measure(velocity: Array, highest: tuple[int, ...], height: float) -> tuple[Array, Array, Array]:
    """Distances (points,), thicknesses (2,) and stresses (4, points) of one field in a box of `height`.

    The upper layer is mirrored onto the lower one: (y, v) -> (-y, -v), which turns the sign of <u'v'>.
    """
    quarter = highest[1] + 1  # of the points, which are thereby more than 4 hy
    mean, stresses = profiles(coefficients(velocity, highest), 4 * quarter)
    span = np.arange(-quarter, quarter + 1)  # points from the centre of a layer
    lower, upper = quarter + span, (3 * quarter - span) % (4 * quarter)
    spacing = height / (4 * quarter)
    mirrored = stresses[:, upper] * np.array([1.0, 1.0, 1.0, -1.0])[:, None]
    thickness = np.array([momentum_thickness(mean[side], spacing) for side in (lower, upper)])
    return spacing * span.astype(float), thickness, 0.5 * (stresses[:, lower] + mirrored)


def read_layers(run: Run, highest: tuple[int, ...]) -> Layers:
    """The layers of a run at its snapshots, cut off to the modes up to `highest`.

    Raises
    ------
    RunFolderError : the run kept no snapshots.
    """
    files = snapshots(run.folder)
    if not files:
        raise RunFolderError(f"{run.folder}: it has no snapshots, so its layers cannot be measured: {REMEDY}")
    times = sorted(files)
    height = run.case.build_grid().y.length
    found = [measure(velocity_of(files[t]), highest, height) for t in times]
    thickness, stresses = (np.stack([f[i] for f in found]) for i in (1, 2))
    return Layers(np.array(times), found[0][0], thickness, stresses)


@dataclass(frozen=True)
class LayerJudge(BoxJudge):
    """Judges mixing layers against a run, by what `METRICS` say and then as any box."""

    flows: ClassVar[tuple[str, ...]] = ("layers", "box")
    _seen: dict[tuple[object, ...], Layers] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def metrics(self) -> list[Metric]:
        """What the columns of `errors` are."""
        return [*METRICS, *super().metrics]

    def layers(self, run: Run) -> tuple[Layers, Layers]:
        """Those of a run and of the reference, filtered alike; each is read once."""
        reference = self.target.run
        assert reference is not None  # the judge is chosen by it
        highest = common_modes(run, reference)
        for one in (run, reference):
            if (one.folder, highest) not in self._seen:
                self._seen[one.folder, highest] = read_layers(one, highest)
        return self._seen[run.folder, highest], self._seen[reference.folder, highest]

    def settled(self, run: Run) -> tuple[Layers, Layers]:
        """`layers` at the snapshot times that both have (to 2 %) after the transient; at those of the run exactly.

        Raises
        ------
        CaseError : there is no such time.
        """
        ours, truth = self.layers(run)
        times = common_times(ours.times, truth.times)
        times = times[times >= TRANSIENT * times[-1] * (1 - 1e-9)] if len(times) else times
        if not len(times):
            raise CaseError(
                f"{run.folder}: has snapshots at t = {_listed(ours.times)}, the reference {self.target.name} at t = "
                f"{_listed(truth.times)}: no common time; {REMEDY}"
            )
        return ours.at(times), truth.at(times)

    def seen(self, run: Run) -> LayersInTime:
        """What metrics see of one run, from its files."""
        box = super().seen(run)
        return LayersInTime(box.run, box.reference, box.ours, box.truth, box.times, self.settled(run))


def _relative(value: Array, truth: Array) -> float:
    return float(np.sqrt(((value - truth) ** 2).sum() / (truth**2).sum()))


def _listed(times: Array) -> str:
    return ", ".join(f"{t:.3g}" for t in times)
