"""What a data file holds row by row, and what its rows hash to: of flows snapshots, of linear families samples."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np

FORMAT = 1  # of a file
FLOWS, STATISTICS, LINEAR = "trajectories", "statistics of trajectories", "linear systems"  # kinds of files
ORIGIN = "start_sha256"  # attribute: of the flow that trajectories start from
Rows = Mapping[str, np.ndarray]
BEGIN = hashlib.sha256(b"").digest()


def chained(digest: bytes, rows: Rows) -> bytes:
    """SHA-256 of the rows so far and those of one more snapshot or sample."""
    found = hashlib.sha256(digest)
    for name in sorted(rows):
        found.update(name.encode())
        found.update(np.ascontiguousarray(rows[name]).tobytes())
    return found.digest()


def content_digest(digests: np.ndarray, header: str, origin: str = "") -> str:
    """SHA-256 of all trajectories or samples, in order, of the recipe, and of what it starts from."""
    return hashlib.sha256(header.encode() + origin.encode() + digests.tobytes()).hexdigest()


def row_names(file: h5py.File) -> list[str]:
    """Datasets that have a row for each trajectory or sample."""
    found: list[str] = []

    def look(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.attrs.get("sample_varying", False):
            found.append(name)

    file.visititems(look)
    return sorted(found)


def read_rows(file: h5py.File, *place: int) -> Rows:
    """One snapshot (trajectory, frame) or sample of an open file, by dataset."""
    return {name: file[name][place] for name in row_names(file)}


def digest_of(file: h5py.File, item: int, frames: int | None = None) -> bytes:
    """What a sample hashes to, or a trajectory: its first `frames` snapshots, all by default."""
    data = file[row_names(file)[0]]
    if not data.attrs["time_varying"]:
        return chained(b"", read_rows(file, item))
    digest = BEGIN
    for frame in range(data.shape[1] if frames is None else frames):
        digest = chained(digest, read_rows(file, item, frame))
    return digest
