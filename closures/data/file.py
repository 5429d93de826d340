"""The file of one trajectory on one coarse grid while it is made: filled in place, and renamed when it is whole.

Until then it has a name that no reader looks for, and its full size, so a full disk is met before anything is
computed. Every snapshot has its place, and writing it twice is harmless.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from closures.data.folder import SPLITS
from closures.data.layout import lay_out, layout_of
from closures.data.recipe import FlowRecipe
from closures.data.rows import FLOWS, FORMAT, ORIGIN, Rows, content_digest, digest_of
from closures.data.well import DIGEST, HEADER_SPACE
from solver.errors import RunFolderError
from solver.files.folder import writing
from solver.files.hdf5 import VERSION, open_hdf5


class FlowFile:
    """The file while it is made.

    Parameters
    ----------
    folder : the set.
    recipe : what is made; a file of another recipe is refused.
    number : of the trajectory.
    origin : checksum of the flow that it starts from; a file begun from another is refused.
    """

    def __init__(self, folder: Path, recipe: FlowRecipe, number: int, origin: str) -> None:
        self.recipe, self.number, self.origin = recipe, number, origin
        self.header = recipe.of_one().model_dump_json()
        self.places = {split: folder / split / f"{number:05d}.h5" for split in SPLITS}
        self.path = self.places[recipe.split_of(number)]
        self.part, self.draft = (folder / f".{number:05d}.{end}" for end in ("part", "new"))  # a kill while the draft
        # is written must leave nothing to go on with

    @property
    def whole(self) -> bool:
        """Whether it has its final name."""
        return self.path.exists()

    def resume(self) -> bool:
        """Go on with the file, whole or begun (root only); False where there is none.

        One that had its place in a set of another size is moved.

        Raises
        ------
        RunFolderError : made by another recipe or version, or from another flow.
        """
        found = next((path for path in (*self.places.values(), self.part) if path.exists()), None)
        if found is None:
            return False
        with writing(found), open_hdf5(found) as file:
            same = file.attrs.get("format") == FORMAT and file.attrs.get("recipe") == self.header
            origin = str(file.attrs.get(ORIGIN, ""))
        if not same:
            raise RunFolderError(
                f"{found}: another recipe or version made it: remove the set, or choose another with --out"
            )
        self.check_origin(origin)
        if found not in (self.path, self.part):
            with writing(self.path):
                self.path.parent.mkdir(exist_ok=True)
                os.replace(found, self.path)
        return True

    def check_origin(self, origin: str) -> None:
        """Raises RunFolderError if `origin` is another flow than the trajectory starts from."""
        if origin != self.origin:
            run = self.recipe.start.run if self.recipe.start else ""
            raise RunFolderError(
                f"{self.part.parent}: its trajectories start from another flow than [start] run = '{run}' holds: "
                "choose another set with --out, or give that run"
            )

    def begin(self, attributes: Mapping[str, Any]) -> None:
        """Lay the file out, in its full size (root only).

        Raises
        ------
        RunFolderError : no space, or no permission.
        """
        layout = layout_of(self.recipe)
        rows = sum(int(np.prod(shape)) * np.dtype(kind).itemsize for shape, kind in layout.values())
        size = self.recipe.sampling.snapshots * rows + DIGEST + HEADER_SPACE
        with writing(self.part.parent):
            self.part.parent.mkdir(parents=True, exist_ok=True)
            with self.draft.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, size)
            # HDF5 ends the process when the disk is full: now it is not
            with h5py.File(self.draft, "w", libver=VERSION) as file:
                lay_out(file, self.recipe, layout, [self.number])
                file.attrs.update(attributes)
                file.attrs.update(format=FORMAT, kind=FLOWS, recipe=self.header, sha256=np.bytes_("0" * 2 * DIGEST))
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

    def write(self, frame: int, rows: Rows) -> None:
        """Put one snapshot in its place."""
        with writing(self.part), h5py.File(self.part, "r+", libver=VERSION) as file:
            for name, row in rows.items():
                file[name][0, frame] = row

    def flush(self) -> None:
        """Put what was written on the disk."""
        with writing(self.part), self.part.open("rb") as file:
            os.fsync(file.fileno())

    def digest(self, frames: int) -> bytes:
        """What the first snapshots hash to, as they are in the file."""
        with open_hdf5(self.path if self.whole else self.part) as file:
            return digest_of(file, 0, frames)

    def finish(self, digest: bytes) -> None:
        """Write its checksums and mean statistics, and give it its name."""
        table = np.frombuffer(digest, np.uint8)[None]
        with writing(self.path):
            with h5py.File(self.part, "r+", libver=VERSION) as file:
                file["checksums"][...] = table
                file["statistics/mean"][...] = file["statistics/moments"][0].mean(axis=0)
                file.attrs.modify("sha256", np.bytes_(content_digest(table, self.header, self.origin)))
            self.flush()
            self.path.parent.mkdir(exist_ok=True)
            os.replace(self.part, self.path)
