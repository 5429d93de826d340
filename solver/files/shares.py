"""One HDF5 file that all ranks fill: each writes the planes it owns in their place, and none holds a whole field.

The root lays the file out in memory. Shared arrays have their place there and are never touched by HDF5: every rank
puts its own planes by plain writes, so no parallel HDF5 is needed, and a full disk is an error on every rank instead of
the end of a process.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from torch import Tensor

from solver.discretisation.calculus import Operators
from solver.files.folder import writing
from solver.files.hdf5 import VERSION, in_place
from solver.parallel.ranks import everywhere, from_root

PAGE = 4096
PIECE = 2**24  # bytes of a shared array that are copied at once


@dataclass(frozen=True)
class Share:
    """This rank's part of a global array, which is what all ranks have, one after the other along `axis`."""

    values: np.ndarray
    axis: int

    def planes(self) -> Iterator[np.ndarray]:
        """One after the other along `axis`."""
        return (self.values.take(i, self.axis) for i in range(self.values.shape[self.axis]))


def coefficients(operators: Operators, field: Tensor) -> Share:
    """Of a coefficient field (parts, cx, cy, cz): modes along x in a box, else planes along y."""
    return Share(field.detach().cpu().numpy(), 1 if operators.grid.y.is_fourier else 2)


def planes(field: Tensor) -> Share:
    """Of anything (..., local ny, n)."""
    return Share(field.detach().cpu().numpy(), field.ndim - 2)


class Whole(NamedTuple):
    """The array of which a rank has a share: its shape and type, and where the share begins along the axis."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    first: int


def write_shared(path: Path, comm: Any, shares: Mapping[str, Share], fill: Callable[[h5py.File], object]) -> None:
    """Write an HDF5 file atomically; collective over `comm`.

    Parameters
    ----------
    shares : the same names on every rank.
    fill : called on the root with the file, which has the shared arrays by now, though not their values: adds the rest.

    Raises
    ------
    RunFolderError : on every rank, if one of them cannot write; nothing half-written stays.
    """
    wholes = _wholes(comm, shares)
    temporary, places = from_root(comm, functools.partial(_lay_out, path, wholes, fill))
    try:
        everywhere(comm, functools.partial(_put, path, temporary, shares, wholes, places))
        from_root(comm, functools.partial(_rename, temporary, path))
    except BaseException:
        if comm.rank == 0:
            temporary.unlink(missing_ok=True)
        raise


def _wholes(comm: Any, shares: Mapping[str, Share]) -> dict[str, Whole]:
    sizes = comm.allgather({name: share.values.shape[share.axis] for name, share in shares.items()})
    found = {}
    for name, share in shares.items():
        shape = list(share.values.shape)
        shape[share.axis] = sum(each[name] for each in sizes)
        first = sum(each[name] for each in sizes[: comm.rank])
        found[name] = Whole(tuple(shape), share.values.dtype, first)
    return found


def _lay_out(
    path: Path, wholes: Mapping[str, Whole], fill: Callable[[h5py.File], object]
) -> tuple[Path, dict[str, int]]:
    """Write all but the shared arrays to a temporary file; returns it, and where these begin (root only)."""
    memory = Sparse()
    with h5py.File(memory, "w", libver=VERSION) as file:
        for name, whole in wholes.items():
            group, _, last = name.rpartition("/")
            in_place(file.require_group(group or "/"), last, whole.shape, whole.dtype)
        fill(file)
        places = {name: file[name].id.get_offset() for name, whole in wholes.items() if math.prod(whole.shape)}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as out:
                memory.copy_to(out.fileno())
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    return temporary, places


def _put(
    path: Path, temporary: Path, shares: Mapping[str, Share], wholes: Mapping[str, Whole], places: Mapping[str, int]
) -> None:
    """Write this rank's shares, and flush them to disk."""
    with writing(path), temporary.open("r+b") as out:
        for name, place in places.items():
            for offset, piece in _pieces(shares[name], wholes[name]):
                _write(out.fileno(), piece.data.cast("B"), place + offset)
        os.fsync(out.fileno())


def _pieces(share: Share, whole: Whole) -> Iterator[tuple[int, np.ndarray]]:
    """Offset in the whole, in bytes, and what lies there in one piece."""
    lead, axis = share.values.shape[: share.axis], share.axis
    row = math.prod(whole.shape[axis + 1 :]) * whole.dtype.itemsize
    some = max(PIECE // max(row, 1), 1)
    for number, index in enumerate(np.ndindex(lead)):
        block = share.values[index]
        for i in range(0, len(block), some):
            yield (number * whole.shape[axis] + whole.first + i) * row, np.ascontiguousarray(block[i : i + some])


def _write(file: int, data: memoryview, offset: int) -> None:
    """All of `data`: on a disk that is nearly full the system writes a part and says so."""
    while data:
        done = os.pwrite(file, data, offset)
        data, offset = data[done:], offset + done


def _rename(temporary: Path, path: Path) -> None:
    with writing(path):
        os.replace(temporary, path)


class Sparse:
    """A file in memory of which only the pages that somebody has written take room."""

    def __init__(self) -> None:
        self.pages: dict[int, bytearray] = {}
        self.size = self.place = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to an offset from the beginning, the present place or the end."""
        self.place = offset + (0, self.place, self.size)[whence]
        return self.place

    def tell(self) -> int:
        """The present place."""
        return self.place

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer from the present place on, with zeros where nothing was written."""
        view = memoryview(buffer).cast("B")
        for page, begin, end, at in self._spans(len(view)):
            known = self.pages.get(page)
            view[at : at + end - begin] = bytes(end - begin) if known is None else known[begin:end]
        self.place += len(view)
        return len(view)

    def read(self, size: int) -> bytes:
        """So many bytes from the present place on."""
        found = bytearray(size)
        self.readinto(found)
        return bytes(found)

    def write(self, data: Any) -> int:
        """Put bytes at the present place."""
        view = memoryview(data).cast("B")
        for page, begin, end, at in self._spans(len(view)):
            self.pages.setdefault(page, bytearray(PAGE))[begin:end] = view[at : at + end - begin]
        self.place += len(view)
        self.size = max(self.size, self.place)
        return len(view)

    def truncate(self, size: int) -> int:
        """Set the size."""
        self.size = size
        return size

    def flush(self) -> None:
        """Nothing waits."""

    def _spans(self, length: int) -> Iterator[tuple[int, int, int, int]]:
        """Page, begin and end in it, and begin in the data, of so many bytes from the present place on."""
        at = 0
        while at < length:
            page, begin = divmod(self.place + at, PAGE)
            end = min(PAGE, begin + length - at)
            yield page, begin, end, at
            at += end - begin

    def copy_to(self, file: int) -> None:
        """Write the pages to a file and give it the size; what lies between takes no time."""
        for page in sorted(self.pages):
            begin = page * PAGE
            _write(file, memoryview(self.pages[page])[: self.size - begin], begin)
        os.ftruncate(file, self.size)
