"""The file of a checkpoint: what it holds, and reading it; its checksum tells damage, the newest good one is taken.

Every rank writes the planes that it owns, see `shares`. One rank reads all of a file, in pieces, to check it; then each
reads the planes that are its own.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from solver.errors import RunFolderError
from solver.files.hdf5 import open_hdf5
from solver.files.shares import PIECE, Share, write_shared
from solver.parallel import ranks

log = logging.getLogger("solver")
FORMAT = 2  # 1 has no `ALONG`, and hashes every array as one
ALONG = "along"  # attribute of an array that ranks share: the axis, plane by plane of which it is hashed


class Stored:
    """An array in a file that is open: what is asked of it by an index is read then."""

    def __init__(self, data: h5py.Dataset) -> None:
        self.data, self.dtype = data, data.dtype
        self.shape: tuple[int, ...] = tuple(data.shape)
        self.ndim, self.size = len(self.shape), int(data.size)
        self.along = int(data.attrs[ALONG]) if ALONG in data.attrs else None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Any:
        return self.data[index]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.data[()], dtype)


Values = np.ndarray | Stored


@dataclass(frozen=True)
class Saved:
    """What a checkpoint holds: global arrays by path, which can be read until its `file` is closed, and attributes."""

    arrays: Mapping[str, Any]  # `Values`
    attributes: Mapping[str, Any]
    sha256: str = ""
    file: h5py.File | None = None

    def close(self) -> None:
        """Nothing more is to be read."""
        if self.file is not None:
            self.file.close()

    @property
    def case(self) -> dict[str, Any]:
        """The resolved case as nested tables, not validated: another version may have written it."""
        return dict(json.loads(self.attributes["case"]))

    def group(self, name: str) -> dict[str, Any]:
        """Arrays below ``name/``; those of more than two dimensions, which may be fields, are not read yet."""
        found = {key.removeprefix(f"{name}/"): a for key, a in self.arrays.items() if key.startswith(f"{name}/")}
        return {key: a if a.ndim > 2 else np.asarray(a) for key, a in found.items()}


class Hashed(NamedTuple):
    """An array that ranks share, while it is written: what its planes hash to, one after the other."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    planes: bytes


def checksum(arrays: Mapping[str, Values | Hashed], attributes: Mapping[str, Any]) -> str:
    """SHA-256 over names, shapes, values and attributes; of what ranks share, over the sums of its planes.

    So it does not depend on how many ranks have written a file, and each needs to hash its own planes alone.
    """
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name}{array.dtype}{array.shape}".encode())
        if isinstance(array, Hashed):
            digest.update(array.planes)
        elif isinstance(array, Stored) and array.along is not None:
            for some in _planes(array, array.along):
                digest.update(_hashed(some.planes()))
        else:
            for piece in _pieces(array):
                digest.update(np.ascontiguousarray(piece).data)
    digest.update(repr(sorted((key, str(value)) for key, value in attributes.items())).encode())
    return digest.hexdigest()


def _hashed(planes: Iterable[np.ndarray]) -> bytes:
    return b"".join(hashlib.sha256(np.ascontiguousarray(plane).data).digest() for plane in planes)


def _planes(array: Stored, axis: int) -> Iterator[Share]:
    """An array cut along an axis into pieces of `PIECE`."""
    some = max(PIECE * array.shape[axis] // max(array.size * array.dtype.itemsize, 1), 1)
    for i in range(0, array.shape[axis], some):
        yield Share(array[(*[slice(None)] * axis, slice(i, i + some))], axis)


def _pieces(array: Values) -> Iterator[np.ndarray]:
    """An array in the order of its values, cut along its first dimension, or the first two, into pieces of `PIECE`."""
    if not array.size:
        return
    if array.size * array.dtype.itemsize <= PIECE or not array.ndim:
        yield np.asarray(array[()])
        return
    if array.ndim == 1:
        rows = max(PIECE // array.dtype.itemsize, 1)
        yield from (array[i : i + rows] for i in range(0, len(array), rows))
        return
    lead = (len(array), array.shape[1])
    rows = max(PIECE * lead[0] * lead[1] // (array.size * array.dtype.itemsize), 1)
    for i in range(lead[0]):
        yield from (array[i, j : j + rows] for j in range(0, lead[1], rows))


def write(path: Path, comm: Any, arrays: Mapping[str, np.ndarray | Share], attributes: Mapping[str, Any]) -> None:
    """Write arrays and attributes, and the checksum over both; collective over `comm`.

    Parameters
    ----------
    arrays : by path, the same names on every rank. Of what is not shared the root's is written.

    Raises
    ------
    RunFolderError : on every rank, if one of them cannot write; nothing half-written stays.
    """
    shares = {name: array for name, array in arrays.items() if isinstance(array, Share)}
    rest = {name: array for name, array in arrays.items() if not isinstance(array, Share)}
    sums = comm.gather({name: _hashed(share.planes()) for name, share in shares.items()}, root=0)
    found = {**attributes, "format": FORMAT}

    def fill(file: h5py.File) -> None:
        content: dict[str, Values | Hashed] = dict(rest)
        for name, array in rest.items():
            file.create_dataset(name, data=array)
        for name, share in shares.items():
            file[name].attrs[ALONG] = share.axis
            content[name] = Hashed(file[name].shape, file[name].dtype, b"".join(own[name] for own in sums))
        file.attrs.update(found)
        file.attrs["sha256"] = checksum(content, found)

    write_shared(path, comm, shares, fill)


class DamagedCheckpoint(RunFolderError):
    """The file can be read and is not what was written."""


def read(path: Path, verify: bool = True) -> Saved:
    """Open one checkpoint and verify it; locks are not asked for, because files are only ever replaced as a whole.

    Raises
    ------
    DamagedCheckpoint : its content is not what was written.
    RunFolderError : missing, not readable, or of another format.
    """
    arrays: dict[str, Values] = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            arrays[name] = Stored(item)

    try:
        with path.open("rb") as plain:
            plain.read(1)
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be read ({error.strerror}): give access to it and try again") from None
    try:
        file = open_hdf5(path, locking=False)
        file.visititems(keep)
        found = {key: v.item() if isinstance(v, np.generic) else v for key, v in file.attrs.items()}
        written = found.pop("sha256", None)
        intact = not verify or str(written) == checksum(arrays, found)
    except MemoryError:
        raise
    except Exception as error:  # HDF5 meets damage with errors of every kind
        reason = str(error).partition("\n")[0]
        raise DamagedCheckpoint(f"{path}: damaged checkpoint ({reason})") from None
    if not intact:
        raise DamagedCheckpoint(f"{path}: damaged checkpoint (its checksum does not match)")
    if str(found.get("format")) not in ("1", str(FORMAT)):  # damage makes a list of a number
        raise RunFolderError(f"{path}: checkpoint format {found.get('format')}, this version reads 1 and {FORMAT}")
    return Saved(arrays, found, str(written), file)


def checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run folder, the oldest first."""
    return sorted((run / "checkpoints").glob("step_*.h5"))


def latest(run: Path, comm: Any = None) -> Saved:
    """The newest good checkpoint of a run folder (or the file given); damaged ones are named and skipped.

    Collective over `comm` (this process alone by default), whose root is the one to verify.

    Raises
    ------
    RunFolderError : there is none, or one that is not damaged cannot be read.
    """
    verdict: Path | RunFolderError | None = None
    comm = ranks.alone() if comm is None else comm
    if comm.rank == 0:
        try:
            verdict = _newest(run)
        except RunFolderError as error:
            verdict = error
    verdict = comm.bcast(verdict, root=0)
    if isinstance(verdict, RunFolderError):
        raise verdict
    assert verdict is not None
    return read(verdict, verify=False)


def _newest(run: Path) -> Path:
    """The path of `latest`."""
    if run.is_file():
        read(run).close()
        return run
    if not run.is_dir():
        raise RunFolderError(f"{run}: no such run folder or checkpoint: give one that `solver run` has made")
    for path in reversed(checkpoints(run)):
        try:
            read(path).close()
            return path
        except DamagedCheckpoint as error:
            log.warning("%s; trying the previous one", error)
    raise RunFolderError(f"{run}: no usable checkpoint in checkpoints/: run the case from its start, without --restart")
