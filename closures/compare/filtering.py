"""A direct simulation seen through the grid of a large-eddy simulation: sharp cutoff along its Fourier axes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import fft

from closures.compare.uncertainty import Sample
from solver.analysis.batch_means import Array
from solver.analysis.moments import INDEX, NAMES
from solver.errors import CaseError
from solver.files.hdf5 import open_hdf5
from solver.grid.grid import Grid

SETTLED = 1 / 3  # of the run: snapshots before it belong to the transient


def cutoff(field: Array, lengths: dict[int, float], grid: Grid) -> Array:
    """`field` ``(..., nx, ny, nz)`` without the modes that `grid` does not carry along the axes in `lengths`."""
    for axis, length in lengths.items():
        points = field.shape[axis - 3]
        kept = grid.fourier_axes[axis].highest_mode * 2 * np.pi / grid.axes[axis].length * (1 + 1e-9)
        spectrum = fft.rfft(field, axis=axis - 3)
        k = 2 * np.pi / length * np.arange(spectrum.shape[axis - 3])
        shape = [1] * field.ndim
        shape[axis - 3] = -1
        field = fft.irfft(spectrum * (k <= kept).reshape(shape), n=points, axis=axis - 3)
    return field


def moments(velocity: Array) -> Array:
    """First and second moments over x and z in the order of ``NAMES``, ``(len(NAMES), ny, 1)``; others are zero."""
    u, v, w = velocity
    found = np.zeros((len(NAMES), velocity.shape[2], 1))
    fields = {"u": u, "v": v, "w": w, "uu": u * u, "vv": v * v, "ww": w * w, "uv": u * v}
    for name, field in fields.items():
        found[INDEX[name], :, 0] = field.mean((0, 2))
    return found


def filtered_moments(run: Path, grid: Grid) -> Sample:
    """Moments of the filtered snapshots of a channel run, one batch each, from the run's later two thirds.

    Raises
    ------
    CaseError : too few snapshots.
    """
    files = {}
    for path in sorted((run / "snapshots").glob("*.h5")):
        with open_hdf5(path) as file:
            files[float(file.attrs["time"])] = path
    last = max(files, default=0.0)
    chosen = [path for time, path in sorted(files.items()) if time >= SETTLED * last]
    if len(chosen) < 4:
        raise CaseError(
            f"{run}: has {len(chosen)} settled snapshots and filtering needs 4 or more: "
            "run it again with a smaller [output] snapshot"
        )
    found = []
    for path in chosen:
        with open_hdf5(path) as file:
            velocity = file["velocity"][()].astype(float)
            lengths = {axis: _length(file["xyz"[axis]][()]) for axis in (0, 2)}
        found.append(moments(cutoff(velocity, lengths, grid)))
    return Sample.of([(np.stack(found), np.ones(len(found)))])


def _length(points: Array) -> float:
    """Period of equally spaced points."""
    return float((points[-1] - points[0]) * len(points) / (len(points) - 1))
