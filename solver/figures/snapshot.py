"""Snapshots of a run folder: HDF5 files with the velocity at cell centres."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from solver.errors import RunFolderError
from solver.figures.qcriterion import is_uniform
from solver.files.hdf5 import open_hdf5


@dataclass(frozen=True)
class Snapshot:
    """Velocity `(3, nx, ny, nz)` at the points x, y, z, at one time; `nu` is the kinematic viscosity."""

    velocity: np.ndarray
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    time: float
    nu: float

    @property
    def has_walls(self) -> bool:
        """A channel: stretched in y, equally spaced along the periodic x and z."""
        return is_uniform(self.x) and is_uniform(self.z) and not is_uniform(self.y)

    def half_height(self) -> Snapshot:
        """Return the lower half of the box, so that the upper wall does not hide the lower one."""
        keep = self.y <= (self.y[0] + self.y[-1]) / 2
        return Snapshot(self.velocity[:, :, keep], self.x, self.y[keep], self.z, self.time, self.nu)


def latest_path(run: Path) -> Path | None:
    """Return the file of the snapshot with the largest time, or None when the run has none.

    Raises
    ------
    RunFolderError : one of them cannot be read.
    """
    times = {}
    for path in sorted((run / "snapshots").glob("*.h5")):
        try:
            with open_hdf5(path) as file:
                times[path] = float(file.attrs["time"])
        except (OSError, KeyError) as error:
            reason = str(error).partition("\n")[0]
            raise RunFolderError(f"{path}: damaged snapshot ({reason}): remove it and try again") from None
    return max(times, key=times.__getitem__, default=None)


def latest_snapshot(run: Path) -> Snapshot | None:
    """Return the snapshot of the run with the largest time, or None when it has none."""
    path = latest_path(run)
    if path is None:
        return None
    with open_hdf5(path) as file:
        return Snapshot(
            file["velocity"][:],
            file["x"][:],
            file["y"][:],
            file["z"][:],
            float(file.attrs["time"]),
            float(file.attrs["nu"]),
        )
