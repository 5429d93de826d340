"""The file of a set of trajectories while it is made: filled in place, whole or not there.

While it is made the file has a temporary name and its full size, so a full disk is met before anything is computed.
Every snapshot has its place, and writing it twice is harmless.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from closures.data.layout import lay_out, layout_of
from closures.data.recipe import FlowRecipe
from closures.data.well import DIGEST, HEADER_SPACE
from solver.errors import RunFolderError
from solver.files.folder import writing
from solver.files.hdf5 import VERSION, open_hdf5

FORMAT = 1
KIND = "trajectories"
ORIGIN = "start_sha256"  # attribute: of the flow that trajectories start from
Rows = Mapping[str, np.ndarray]
BEGIN = hashlib.sha256(b"").digest()


def chained(digest: bytes, rows: Rows) -> bytes:
    """SHA-256 of the snapshots so far and one more."""
    found = hashlib.sha256(digest)
    for name in sorted(rows):
        found.update(name.encode())
        found.update(np.ascontiguousarray(rows[name]).tobytes())
    return found.digest()


class FlowFile:
    """The file while it is made, of one coarse grid.

    Parameters
    ----------
    path : its final name.
    recipe : what is made; a file begun with another recipe is refused.
    origin : checksum of the flow that trajectories start from; a file begun from another is refused.
    """

    def __init__(self, path: Path, recipe: FlowRecipe, origin: str) -> None:
        self.path, self.recipe, self.origin = path, recipe, origin
        self.header = recipe.model_dump_json()
        self.part = path.with_name(f".{path.name}.part")
        self.draft = self.part.with_suffix(".new")  # a kill while this is written must leave nothing to go on with
        self.count = recipe.sampling.snapshots
        self.offsets: dict[str, tuple[int, int]] = {}

    @property
    def finished(self) -> bool:
        """Whether the final name is that of a file of this very recipe."""
        return self._found() == self.header

    @property
    def smaller(self) -> bool:
        """Whether the final name is that of a file of this recipe but for the number of trajectories, of which it has
        fewer.
        """
        header = self._found()
        if header is None:
            return False
        found, wanted = json.loads(header), json.loads(self.header)
        counts = found.pop("trajectories", 0), wanted.pop("trajectories")
        found.pop("test", None), wanted.pop("test")
        return bool(found == wanted and counts[0] < counts[1])

    def _found(self) -> str | None:
        """The recipe of what has the final name; None where that is nothing, or something else."""
        try:
            with open_hdf5(self.path) as file:
                return str(file.attrs["recipe"]) if str(file.attrs.get("kind")) == KIND else None
        except (OSError, LookupError):
            return None

    def resume(self) -> bool:
        """Go on with a file begun earlier (root only); False where there is none.

        One that got its final name before the others of its set did gives it back.

        Raises
        ------
        RunFolderError : begun by another recipe or version, or from another flow.
        """
        if not self.part.exists() and self.finished:
            with writing(self.path):
                os.replace(self.path, self.part)
        if not self.part.exists():
            return False
        with writing(self.part), open_hdf5(self.part) as file:
            same = file.attrs.get("format") == FORMAT and file.attrs.get("recipe") == self.header
            origin = str(file.attrs.get(ORIGIN, ""))
        if not same:
            raise RunFolderError(
                f"{self.part}: begun by another recipe or version: remove it, or choose another file with --out"
            )
        self.check_origin(self.part, origin)
        return True

    def begin(self, attributes: Mapping[str, Any]) -> None:
        """Lay the file out, in its full size (root only).

        Raises
        ------
        RunFolderError : no space, or no permission.
        """
        layout = layout_of(self.recipe)
        rows = sum(int(np.prod(shape)) * np.dtype(kind).itemsize for shape, kind in layout.values())
        size = self.recipe.trajectories * (self.count * rows + DIGEST) + HEADER_SPACE
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.draft.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, size)
            # HDF5 ends the process when the disk is full: now it is not
            with h5py.File(self.draft, "w", libver=VERSION) as file:
                lay_out(file, self.recipe, layout)
                file.attrs.update(attributes)
                file.attrs.update(format=FORMAT, kind=KIND, recipe=self.header, sha256=np.bytes_("0" * 2 * DIGEST))
                file.attrs[ORIGIN] = self.origin
            with self.draft.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, self.draft.stat().st_size)
                os.fsync(file.fileno())
            os.replace(self.draft, self.part)

    def discard(self) -> None:
        """Leave nothing of a file that is not finished."""
        for file in (self.draft, self.part):
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)

    def check_origin(self, path: Path, origin: str) -> None:
        """Raises RunFolderError if the trajectories in `path` start from another flow than those to be made."""
        if origin != self.origin:
            assert self.recipe.start is not None
            raise RunFolderError(
                f"{path}: its trajectories start from another flow than [start] run = '{self.recipe.start.run}' holds: "
                "choose another file with --out, or give that run"
            )

    def open_rows(self) -> None:
        """Learn where the rows of each dataset lie in the file (every rank)."""
        with h5py.File(self.part, "r") as file:
            for name in row_names(file):
                data = file[name]
                self.offsets[name] = data.id.get_offset(), data.nbytes // (data.shape[0] * data.shape[1])

    def write(self, trajectory: int, frame: int, rows: Rows) -> None:
        """Put one snapshot in its place."""
        with writing(self.part), self.part.open("r+b") as file:
            for name, (offset, size) in self.offsets.items():
                data = np.ascontiguousarray(rows[name]).tobytes()
                assert len(data) == size
                file.seek(offset + (trajectory * self.count + frame) * size)
                file.write(data)

    def flush(self) -> None:
        """Put what was written on the disk."""
        with writing(self.part), self.part.open("rb") as file:
            os.fsync(file.fileno())

    def digest(self, trajectory: int, frames: int) -> bytes:
        """What the first snapshots of a trajectory hash to, as they are in the file."""
        digest = BEGIN
        with h5py.File(self.part, "r") as file:
            for frame in range(frames):
                digest = chained(digest, read_rows(file, trajectory, frame))
        return digest

    def finish(self, digests: list[bytes]) -> str:
        """Write checksums and pooled statistics, give the file its name (root only); returns its checksum."""
        table = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST)
        total = content_digest(table, self.header, self.origin)
        with writing(self.path):
            with h5py.File(self.part, "r+") as file:
                file["checksums"][...] = table
                rows = file["statistics/moments"]
                file["statistics/mean"][...] = np.mean([rows[i].mean(axis=0) for i in range(len(digests))], axis=0)
                file.attrs.modify("sha256", np.bytes_(total))
            self.flush()
            os.replace(self.part, self.path)
        return total


def content_digest(digests: np.ndarray, header: str, origin: str) -> str:
    """SHA-256 of all trajectories, in order, of the recipe, and of what it starts from."""
    return hashlib.sha256(header.encode() + origin.encode() + digests.tobytes()).hexdigest()


def row_names(file: h5py.File) -> list[str]:
    """Datasets that have a row for each snapshot."""
    found: list[str] = []

    def look(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.attrs.get("time_varying", False):
            found.append(name)

    file.visititems(look)
    return sorted(found)


def read_rows(file: h5py.File, trajectory: int, frame: int) -> Rows:
    """One snapshot of an open file, by dataset."""
    return {name: file[name][trajectory, frame] for name in row_names(file)}
