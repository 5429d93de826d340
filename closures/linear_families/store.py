"""The file of a linear family: HDF5 in the layout of The Well, filled in place by many ranks, whole or not there.

The Well: Ohana et al. (2024), arXiv 2412.00568. Steady fields are ``(samples, x, y[, z])`` in ``t0_fields``, numbers in
``scalars``. While it is made the file has a temporary name and its full size: the space is reserved first, so a full
disk is met before anything is computed. Ranks write rows by offset; a journal beside it, one line a finished batch,
tells what need not be done again after an interruption.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from closures.data.well import DIGEST, HEADER_SPACE, at_ends, boundary, dimension, named
from closures.linear_families.family import Family, Parameters
from solver.errors import RunFolderError
from solver.files.folder import writing
from solver.files.hdf5 import VERSION

FORMAT = 1
ROWS = ("t0_fields", "scalars", "parameters", "solver")  # groups whose datasets have one row a sample
Rows = Mapping[str, np.ndarray]


def sample_rows(family: Family, parameters: Parameters, solution: np.ndarray, iterations: int, residual: float) -> Rows:
    """What one sample leaves in the file, by dataset."""
    rows: dict[str, np.ndarray] = {}
    for name, value in parameters.items():
        is_field = value.shape == family.volumes.shape
        group = "t0_fields" if is_field else "scalars" if value.ndim == 0 else "parameters"
        rows[f"{group}/{name}"] = np.asarray(value, np.float64)
    rows[f"t0_fields/{family.unknown}"] = family.volumes.field(solution)
    rows["solver/iterations"] = np.array(iterations, np.int64)
    rows["solver/residual"] = np.array(residual, np.float64)
    return rows


def digest(rows: Rows) -> bytes:
    """SHA-256 of one sample."""
    found = hashlib.sha256()
    for name in sorted(rows):
        found.update(name.encode())
        found.update(np.ascontiguousarray(rows[name]).tobytes())
    return found.digest()


def content_digest(digests: np.ndarray, header: str) -> str:
    """SHA-256 of all samples, in order, and of the recipe."""
    return hashlib.sha256(header.encode() + digests.tobytes()).hexdigest()


class LinearStore:
    """The file while it is made.

    Parameters
    ----------
    path : its final name.
    header : resolved recipe as JSON; a file begun with another one is refused.
    """

    def __init__(self, path: Path, header: str) -> None:
        self.path, self.header = path, header
        self.part = path.with_name(f".{path.name}.part")
        self.journal = path.with_name(f".{path.name}.journal")
        self.offsets: dict[str, tuple[int, int]] = {}

    def begin(self, family: Family, samples: int, example: Rows, attributes: Mapping[str, Any]) -> dict[int, list[str]]:
        """Continue the file begun earlier, or begin it (root only); returns the finished batches with their digests.

        Raises
        ------
        RunFolderError : no space, no permission, or begun by another recipe or version.
        """
        if self.part.exists() and self.journal.exists():
            with writing(self.part):
                return self._finished()
        size = samples * (sum(row.nbytes for row in example.values()) + DIGEST) + HEADER_SPACE
        with writing(self.path), self._nothing_left():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.part.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, size)
            # HDF5 ends the process when the disk is full: now it is not
            with h5py.File(self.part, "w", libver=VERSION) as file:
                _lay_out(file, family, samples, example, {**attributes, "recipe": self.header, "format": FORMAT})
            with self.part.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, self.part.stat().st_size)
            self.journal.write_text(json.dumps({"format": FORMAT, "recipe": self.header}) + "\n", encoding="utf-8")
        return {}

    @contextlib.contextmanager
    def _nothing_left(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            for file in (self.part, self.journal):
                with contextlib.suppress(OSError):
                    file.unlink(missing_ok=True)
            raise

    def _finished(self) -> dict[int, list[str]]:
        """Batches of the journal; a line cut short by a kill does not count."""
        first, *lines = self.journal.read_text(encoding="utf-8").split("\n")
        try:
            begun = json.loads(first)
        except ValueError:
            begun = {}
        if begun != {"format": FORMAT, "recipe": self.header}:
            raise RunFolderError(
                f"{self.part}: begun by another recipe or version: remove it, or choose another file with --out"
            )
        found = {}
        for line in lines:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                record = json.loads(line)
                found[int(record["batch"])] = list(record["digests"])
        if lines and lines[-1]:  # the next line must not continue a torn one
            with self.journal.open("a", encoding="utf-8") as file:
                file.write("\n")
        return found

    def open_rows(self) -> None:
        """Learn where the rows of each dataset lie in the file (every rank)."""
        with h5py.File(self.part, "r") as file:
            for group in ROWS:
                for name, data in file[group].items() if group in file else ():
                    if data.attrs["sample_varying"]:
                        self.offsets[f"{group}/{name}"] = data.id.get_offset(), data.nbytes // data.shape[0]

    def write(self, samples: list[int], rows: list[Rows]) -> list[str]:
        """Write the rows of some samples and flush them to disk; returns their digests."""
        with writing(self.part), self.part.open("r+b") as file:
            for sample, named in zip(samples, rows, strict=True):
                for name, row in named.items():
                    offset, size = self.offsets[name]
                    data = np.ascontiguousarray(row).tobytes()
                    assert len(data) == size
                    file.seek(offset + sample * size)
                    file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return [digest(named).hex() for named in rows]

    def record(self, batch: int, digests: list[str]) -> None:
        """Note in the journal that a batch is on disk (root only)."""
        with writing(self.journal), self.journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"batch": batch, "digests": digests}) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def intact(self, samples: list[int], digests: list[str]) -> bool:
        """Whether the file still holds what the journal says (root only)."""
        with h5py.File(self.part, "r") as file:
            return [digest(read_rows(file, sample)).hex() for sample in samples] == digests

    def finish(self, digests: np.ndarray) -> str:
        """Write the checksums, give the file its name, drop the journal (root only); returns the content's checksum."""
        total = content_digest(digests, self.header)
        with writing(self.path):
            with h5py.File(self.part, "r+") as file:
                file["checksums"][...] = digests
                file.attrs.modify("sha256", np.bytes_(total))
            with self.part.open("rb") as raw:
                os.fsync(raw.fileno())
            os.replace(self.part, self.path)
            self.journal.unlink(missing_ok=True)
        return total


def read_rows(file: h5py.File, sample: int) -> Rows:
    """One sample of an open file, by dataset."""
    found = {}
    for group in ROWS:
        for name, data in file[group].items() if group in file else ():
            if data.attrs["sample_varying"]:
                found[f"{group}/{name}"] = np.asarray(data[sample])
    return found


def _lay_out(file: h5py.File, family: Family, samples: int, example: Rows, attributes: Mapping[str, Any]) -> None:
    """Groups, attributes and empty datasets, each contiguous and in place."""
    v = family.volumes
    axes = "xyz"[: v.ndim]
    file.attrs.update(attributes)
    file.attrs["sha256"] = np.bytes_("0" * 2 * DIGEST)
    file.attrs.update(dataset_name=family.name, grid_type="cartesian", n_spatial_dims=v.ndim, n_trajectories=samples)
    dimensions = file.create_group("dimensions")
    dimensions.attrs["spatial_dims"] = list(axes)
    for name, n, length in zip(axes, v.shape, v.lengths, strict=True):
        dimension(file, name, (np.arange(n) + 0.5) * (length / n))
    dimension(file, "time", np.zeros(1))
    dimension(file, "sample", np.arange(samples))
    for group in ("boundary_conditions", "t0_fields", "t1_fields", "t2_fields", "scalars"):
        file.create_group(group).attrs["field_names"] = [
            name.partition("/")[2] for name in example if name.startswith(f"{group}/")
        ]
    _boundaries(file, family)
    early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    early.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    for name, row in [*example.items(), ("checksums", np.zeros(DIGEST, np.uint8))]:
        group, _, last = name.rpartition("/")
        space = h5py.h5s.create_simple((samples, *row.shape))
        place = file.require_group(group) if group else file
        kind = h5py.h5t.py_create(row.dtype, logical=True)
        data = h5py.Dataset(h5py.h5d.create(place.id, last.encode(), kind, space, early))
        data.attrs.update(sample_varying=True, time_varying=False)
        if group == "t0_fields":
            data.attrs["dim_varying"] = np.ones(v.ndim, bool)
        if group in ("t0_fields", "scalars", "solver"):
            named(file, data, ("sample", *axes) if group == "t0_fields" else ("sample",))


def _boundaries(file: h5py.File, family: Family) -> None:
    """Sides with a prescribed value are open, those with a flux and the faces of solids are walls."""
    v, kinds = family.volumes, {"value": "OPEN", "flux": "WALL"}
    axes = list("xyz"[: v.ndim])
    for name, n, sides in zip(axes, v.shape, v.sides, strict=True):
        for side, kind in kinds.items():
            if ends := [end for end in (0, 1) if sides[end] == side]:
                boundary(file, name, kind, [name], at_ends(n, ends), [family.unknown])  # type: ignore[arg-type]
    if not v.active.all():
        boundary(file, "solid", "WALL", axes, ~v.active, [family.unknown])
