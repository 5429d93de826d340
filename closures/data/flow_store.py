"""The file of a set of trajectories while it is made: filled in place, whole or not there.

While it is made the file has a temporary name and its full size, so a full disk is met before anything is computed.
Every snapshot has its place, and writing it twice is harmless. Beside it lies a folder with one small state a
trajectory: a checkpoint that says how many snapshots precede it and what they hash to. A state is written after the
snapshots it counts are on disk, so a run killed at any moment goes on without a lost or a doubled one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from closures.data.flow_layout import Layout, lay_out
from closures.data.flow_recipe import FlowRecipe
from closures.data.linear_store import DIGEST, HEADER_SPACE
from solver.errors import RunFolderError
from solver.hooks import saved as states
from solver.rundir import write_hdf5, writing

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


class FlowStore:
    """The file while it is made.

    Parameters
    ----------
    path : its final name.
    recipe : what is made; a file begun with another recipe is refused.
    origin : checksum of the flow that trajectories start from, see `origin_of`; a file begun from another is refused.
    """

    def __init__(self, path: Path, recipe: FlowRecipe, origin: str = "") -> None:
        self.path, self.recipe, self.origin = path, recipe, origin
        self.header = recipe.model_dump_json()
        self.part = path.with_name(f".{path.name}.part")
        self.states = path.with_name(f".{path.name}.states")
        self.count = recipe.sampling.snapshots
        self.offsets: dict[str, tuple[int, int]] = {}

    def begin(self, layout: Layout, attributes: Mapping[str, Any]) -> None:
        """Go on with the file begun earlier, or begin it (root only); `layout` has shape and type of each row.

        Raises
        ------
        RunFolderError : no space, no permission, or begun by another recipe or version.
        """
        if self.part.exists():
            return self._go_on()
        rows = sum(int(np.prod(shape)) * np.dtype(kind).itemsize for shape, kind in layout.values())
        size = self.recipe.trajectories * (self.count * rows + DIGEST) + HEADER_SPACE
        with writing(self.path), self._nothing_left():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            draft = self.part.with_suffix(".new")  # a kill while this is written must leave nothing to go on with
            with draft.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, size)
            with h5py.File(draft, "w") as file:  # HDF5 ends the process when the disk is full: now it is not
                lay_out(file, self.recipe, layout)
                file.attrs.update(attributes)
                file.attrs.update(format=FORMAT, kind=KIND, recipe=self.header, sha256=np.bytes_("0" * 2 * DIGEST))
                file.attrs[ORIGIN] = self.origin
            with draft.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, os.path.getsize(draft))
                os.fsync(file.fileno())
            shutil.rmtree(self.states, ignore_errors=True)
            self.states.mkdir()
            os.replace(draft, self.part)

    def _go_on(self) -> None:
        with writing(self.part), h5py.File(self.part, "r") as file:
            same = file.attrs.get("format") == FORMAT and file.attrs.get("recipe") == self.header
            origin = str(file.attrs.get(ORIGIN, ""))
        if not same:
            raise RunFolderError(
                f"{self.part}: begun by another recipe or version: remove it, or choose another file with --out"
            )
        self.check_origin(self.part, origin)
        with writing(self.states):
            self.states.mkdir(exist_ok=True)

    def check_origin(self, path: Path, origin: str) -> None:
        """Raises RunFolderError if the trajectories in `path` start from another flow than those to be made."""
        if origin != self.origin:
            assert self.recipe.start is not None
            raise RunFolderError(
                f"{path}: its trajectories start from another flow than [start] run = '{self.recipe.start.run}' holds: "
                "choose another file with --out, or give that run"
            )

    @contextlib.contextmanager
    def _nothing_left(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            for file in (self.part.with_suffix(".new"), self.part):
                with contextlib.suppress(OSError):
                    file.unlink(missing_ok=True)
            shutil.rmtree(self.states, ignore_errors=True)
            raise

    def adopt(self) -> None:
        """Take over the trajectories of the smaller set that has the final name, if not yet done (root only)."""
        with h5py.File(self.path, "r") as old:
            for number, digest in enumerate(old["checksums"][: self.recipe.trajectories]):
                if not self._state(number).exists():
                    for frame in range(self.count):
                        self.write(number, frame, read_rows(old, number, frame))
                    case = self.recipe.case(number).model_dump_json()
                    self.keep(number, {}, {"count": self.count, "digest": digest.tobytes().hex(), "case": case})

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

    def keep(self, trajectory: int, arrays: Rows, attributes: Mapping[str, Any]) -> None:
        """Flush the snapshots written so far, then note the state that follows them: a checkpoint."""
        with writing(self.part), self.part.open("rb") as file:
            os.fsync(file.fileno())
        found = {**attributes, "format": states.FORMAT}
        write_hdf5(self._state(trajectory), lambda file: states.fill(file, arrays, found))

    def _state(self, trajectory: int) -> Path:
        return self.states / f"{trajectory:05d}.h5"

    def kept(self, trajectory: int) -> states.Saved | None:
        """The last state of a trajectory; None where there is none, or the snapshots are not those it counts."""
        saved = self._last(trajectory)
        if saved is None:
            return None
        digest = BEGIN
        with h5py.File(self.part, "r") as file:
            for frame in range(int(saved.attributes["count"])):
                digest = chained(digest, read_rows(file, trajectory, frame))
        return saved if digest.hex() == saved.attributes["digest"] else None

    def snapshots_of(self, trajectory: int) -> int:
        """How many its last state counts; that they are those is not looked at."""
        saved = self._last(trajectory)
        return 0 if saved is None else int(saved.attributes["count"])

    def _last(self, trajectory: int) -> states.Saved | None:
        if not self._state(trajectory).exists():
            return None
        try:
            return states.read(self._state(trajectory))
        except RunFolderError:  # begun anew
            return None

    def finish(self, digests: np.ndarray, pooled: Rows) -> str:
        """Write checksums and pooled statistics, give the file its name, drop the states (root only)."""
        total = content_digest(digests, self.header, self.origin)
        with writing(self.path):
            with h5py.File(self.part, "r+") as file:
                file["checksums"][...] = digests
                for name, values in pooled.items():
                    file[name][...] = values
                file.attrs.modify("sha256", np.bytes_(total))
            with self.part.open("rb") as raw:
                os.fsync(raw.fileno())
            os.replace(self.part, self.path)
        shutil.rmtree(self.states, ignore_errors=True)
        return total


def content_digest(digests: np.ndarray, header: str, origin: str) -> str:
    """SHA-256 of all trajectories, in order, of the recipe, and of what it starts from."""
    return hashlib.sha256(header.encode() + origin.encode() + digests.tobytes()).hexdigest()


def origin_of(recipe: FlowRecipe) -> str:
    """Checksum of the checkpoint that ``[start] run`` leads to; empty without.

    Raises
    ------
    RunFolderError : there is none.
    """
    if recipe.start is None:
        return ""
    saved = states.latest(Path(recipe.start.run))
    return states.checksum(saved.arrays, saved.attributes)


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
