"""The statistics of a channel's data set without its fields: what judges an LES, small enough to be kept beside a case.

Each trajectory is cut into batches of equal length, whose means are kept, so intervals can be had from the file;
`closures.data.profiles.filtered_channel` reads it as it reads the set. Spectra are kept on a few planes. What is to
judge a network leaves out the trajectories that it learned from.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from closures.data.exchange import ODD_IN_HEIGHT
from closures.data.folder import SPLITS, is_of_sets, manifest
from closures.data.opened import Joined, opened
from closures.data.rows import STATISTICS
from solver.errors import CaseError
from solver.files.folder import write_hdf5
from solver.grid.axis import Array

HEIGHTS = (5.0, 10.0, 15.0, 30.0, 50.0, 100.0, 150.0)  # y+ near which spectra are kept
PLANE_MEANS = ("moments", "wall_stress", "exchange")
COPIED = ("y", "y_faces", "moment", "exchange", "cospectrum", "k_x", "k_z")


def write_statistics(source: Path, target: Path, batches: int = 5, splits: Sequence[str] = SPLITS) -> list[Path]:
    """Write the statistics of a set, or of each set of a folder to a file of its name; returns the files.

    Parameters
    ----------
    source, target : the set, and the file; or the folder of sets, and a folder.
    batches : parts of each trajectory.
    splits : those whose trajectories count, of ``train``, ``valid`` and ``test``.

    Raises
    ------
    CaseError : not a channel, fewer snapshots than batches, or no such split.
    RunFolderError : `source` is missing or no such set, has nothing in `splits`, or `target` cannot be written.
    """
    if unknown := [split for split in splits if split not in SPLITS]:
        raise CaseError(f"'{unknown[0]}' is no part of a data set: there are {', '.join(SPLITS)}")
    if not is_of_sets(source):
        _write(source, target, batches, splits)
        return [target]
    found = {target / f"{name.removesuffix('.h5')}.h5": source / name for name in manifest(source)["files"]}
    for file, whole in found.items():
        _write(whole, file, batches, splits)
    return list(found)


def _write(source: Path, target: Path, batches: int, splits: Sequence[str]) -> None:
    with opened(source, splits=splits) as old:
        if "statistics/wall_stress" not in old:
            raise CaseError(f"{source}: only a channel has profiles in wall units")
        length = old["statistics/moments"].shape[1] // batches
        if length < 1:
            raise CaseError(
                f"{source}: {old['statistics/moments'].shape[1]} snapshots cannot be cut into {batches} batches"
            )
        means = {name: _batch_means(old, name, batches) for name in PLANE_MEANS if f"statistics/{name}" in old}
        planes = _planes(old, means)

        def fill(new: h5py.File) -> None:
            for name, rows in means.items():
                new[f"statistics/{name}"] = rows
            for name in COPIED:
                if f"dimensions/{name}" in old:
                    data = old[f"dimensions/{name}"]
                    new.create_dataset(f"dimensions/{name}", data=data[()], dtype=data.dtype)
            if planes:
                new["dimensions/plane"] = old["dimensions/y"][()][planes]
                for direction in "xz":
                    rows = _batch_means(old, f"spectra_{direction}", batches)
                    other = ODD_IN_HEIGHT[:, None, None] * rows[..., [-1 - j for j in planes]]
                    both = 0.5 * (rows[..., planes] + other)
                    new[f"statistics/spectra_{direction}"] = both.astype(np.float32)
            new.attrs.update({key: value for key, value in old.attrs.items() if key not in ("case", "kind")})
            new.attrs.update(kind=STATISTICS, snapshots_per_batch=length)
            if tuple(splits) != SPLITS:
                new.attrs["splits"] = ",".join(splits)

        write_hdf5(target, fill)


def _batch_means(file: Joined, name: str, batches: int) -> Array:
    """Means over the batches, (n_traj, batches, ...); snapshots left over at the end are left out."""
    data = file[f"statistics/{name}"]
    length = data.shape[1] // batches
    parts = [data[:, i * length : (i + 1) * length].astype(np.float64).mean(axis=1) for i in range(batches)]
    return np.stack(parts, 1)


def _planes(file: Joined, means: dict[str, Array]) -> list[int]:
    """The planes of the lower half nearest to `HEIGHTS`, each once; none where the set has no spectra."""
    if "statistics/spectra_x" not in file:
        return []
    y, start = file["dimensions/y"][()], file["dimensions/y_faces"][0]
    u_tau = float(np.sqrt(abs(means["wall_stress"].mean())))
    y_plus = (y[: (len(y) + 1) // 2] - start) * u_tau / float(file.attrs["nu"])
    return sorted({int(np.abs(np.log(y_plus / height)).argmin()) for height in HEIGHTS})
