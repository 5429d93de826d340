"""Velocity fields kept by runs in boxes: snapshots by time, the modes that two grids share, increments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import fft

from closures.compare.runs import Run
from solver.analysis.batch_means import Array
from solver.files.hdf5 import open_hdf5

BINS = np.linspace(-6, 6, 49)  # of increments, in standard deviations
SAME_TIME = 0.02  # relative difference of the times up to which two snapshots are of the same time


def snapshots(folder: Path) -> dict[float, Path]:
    """Snapshot files by time."""
    found = {}
    for path in sorted((folder / "snapshots").glob("*.h5")):
        with open_hdf5(path) as file:
            found[float(file.attrs["time"])] = path
    return found


def velocity_of(snapshot: Path) -> Array:
    """Velocity ``(3, nx, ny, nz)`` of a snapshot file."""
    with open_hdf5(snapshot) as file:
        return np.asarray(file["velocity"][()], dtype=float)


def common_times(ours: Array, theirs: Array) -> Array:
    """Those of the times `ours` at which there is one of `theirs` too, to 2 %.

    Examples
    --------
    >>> common_times(np.array([1.0, 2.0, 3.0]), np.array([1.01, 2.5, 3.0]))
    array([1., 3.])
    """
    if not len(theirs):
        return ours[:0]
    nearest = theirs[np.abs(ours[:, None] - theirs).argmin(1)]
    shared: Array = ours[np.abs(nearest - ours) <= SAME_TIME * np.maximum(nearest, ours)]
    return shared


def common_modes(run: Run, reference: Run) -> tuple[int, ...]:
    """The highest mode along each axis that both runs carry."""
    return tuple(min(pair) for pair in zip(_modes(run), _modes(reference), strict=True))


def _modes(run: Run) -> list[int]:
    return [axis.highest_mode for axis in run.case.build_grid().fourier_axes.values()]


def coefficients(velocity: Array, highest: tuple[int, ...]) -> Array:
    """Fourier coefficients ``(3, 2 hx + 1, 2 hy + 1, 2 hz + 1)`` of the modes up to `highest`: 0 .. h, -h .. -1.

    The field itself is ``sum c exp(i k x)``, so that mode 0 is the mean. Modes beyond are cut off sharply.
    """
    c = velocity
    for axis, h in enumerate(highest, start=1):
        c = np.take(fft.fft(c, axis=axis, norm="forward"), np.r_[0 : h + 1, -h:0], axis=axis)
    return c


def increments(velocity: Array, shift: int) -> Array:
    """Longitudinal increments ``u_i(x + shift e_i) - u_i(x)`` of a periodic field, over their standard deviation."""
    found = np.concatenate([(np.roll(c, -shift, axis) - c).ravel() for axis, c in enumerate(velocity)])
    scaled: Array = found / found.std()
    return scaled


def increment_density(velocity: Array, highest: tuple[int, ...]) -> tuple[Array, Array]:
    """Density over `BINS`, and (skewness, flatness), of the increments over one cell of a field cut off at `highest`.

    A cell is that of the fewest points, an even number, that carry these modes.
    """
    c = coefficients(velocity, highest)
    for axis, h in enumerate(highest, start=1):
        padded = np.zeros((*c.shape[:axis], 2 * h + 2, *c.shape[axis + 1 :]), dtype=complex)
        np.moveaxis(padded, axis, 0)[np.r_[0 : h + 1, -h:0]] = np.moveaxis(c, axis, 0)
        c = fft.ifft(padded, axis=axis, norm="forward")
    found = increments(c.real, 1)
    density, _ = np.histogram(found, BINS, density=True)
    return density, np.array([(found**3).mean(), (found**4).mean()])


def increment_distance(run: Run, reference: Run, since: float) -> float:
    """Half the area between the densities of increments, 0 .. 1, mean over the snapshots from `since` on.

    Snapshots at the same time are compared, both cut off to the modes that both runs carry; nan if there are none.
    """
    ours, theirs = snapshots(run.folder), snapshots(reference.folder)
    highest, instants = common_modes(run, reference), np.array(list(theirs))
    found = []
    for t in (t for t in common_times(np.array(list(ours)), instants) if t >= since):
        near = instants[np.abs(instants - t).argmin()]
        one, other = (increment_density(velocity_of(path), highest)[0] for path in (ours[t], theirs[near]))
        found.append(0.5 * np.abs(one - other).sum() * (BINS[1] - BINS[0]))
    return float(np.mean(found)) if found else float("nan")


def last_density(run: Run, other: Run | None) -> tuple[Array, Array] | None:
    """`increment_density` of the run's last snapshot, cut off to what `other` carries too; None without a snapshot."""
    files = snapshots(run.folder)
    return increment_density(velocity_of(files[max(files)]), common_modes(run, other or run)) if files else None
