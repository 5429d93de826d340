"""HDF5 as it is written here, and opened: damage becomes an error, never a loop without an end."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

# The first HDF5 whose metadata have checksums. Later ones mark a file while it is written and refuse it after a kill.
VERSION = "v108"
HEAP = b"GCOL\1\0\0\0"  # begins a global heap: texts of any length, and references
HEADER = 16  # bytes before the objects of a heap, and before each object


def open_hdf5(path: str | os.PathLike[str], **options: Any) -> h5py.File:
    """Open a file for reading, once its heaps are known to have an end.

    Of all metadata global heaps alone have no checksum, and libhdf5 never leaves one whose free space is of no size
    (HDF5 File Format Specification 3.0, section III.E).

    Parameters
    ----------
    options : those of `h5py.File`.

    Raises
    ------
    OSError : no such file, not an HDF5 file, or damaged.
    """
    file = h5py.File(path, "r", **options)
    try:
        whole = _heaps_end(file, Path(path))
    except MemoryError:
        raise
    except Exception as error:  # HDF5 meets damage with errors of every kind
        file.close()
        raise OSError(f"damaged: {str(error).partition(chr(10))[0]}") from None
    if not whole:
        file.close()
        raise OSError("damaged: a heap of texts has no end")
    return file


def in_place(group: h5py.Group, name: str, shape: tuple[int, ...], kind: np.dtype[Any]) -> h5py.Dataset:
    """A dataset that has its final place in the file before anything is written to it."""
    early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    early.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    early.set_obj_track_times(False)  # equal content, equal bytes
    space, stored = h5py.h5s.create_simple(shape), h5py.h5t.py_create(kind, logical=True)
    return h5py.Dataset(h5py.h5d.create(group.id, name.encode(), stored, space, early))


def _heaps_end(file: h5py.File, path: Path) -> bool:
    """Whether every global heap can be read to its end; rows of data, which may be gigabytes, are not searched."""
    if file.id.get_create_plist().get_sizes() != (8, 8):
        return True  # of lengths and addresses; not written here
    with path.open("rb") as plain, mmap.mmap(plain.fileno(), 0, access=mmap.ACCESS_READ) as data:
        end = 0
        for begin, size in [*sorted(_rows(file)), (len(data), 0)]:
            place = data.find(HEAP, end, begin)
            while place >= 0:
                if not _ends(data, place):
                    return False
                place = data.find(HEAP, place + len(HEAP), begin)
            end = max(end, begin + size)
    return True


def _rows(file: h5py.File) -> Iterator[tuple[int, int]]:
    """Offset and size of each dataset that lies in one piece."""
    found: list[h5py.Dataset] = []
    file.visititems(lambda _, item: found.append(item) if isinstance(item, h5py.Dataset) else None)
    for data in found:
        if (offset := data.id.get_offset()) is not None:
            yield offset, data.id.get_storage_size()


def _ends(data: mmap.mmap, place: int) -> bool:
    """Whether the objects of the heap at `place` fill it."""
    end = place + int.from_bytes(data[place + 8 : place + 16], "little")
    place += HEADER
    while place + HEADER <= end:
        index, size = (int.from_bytes(data[place + a : place + b], "little") for a, b in ((0, 2), (8, 16)))
        step = HEADER + -(-size // 8) * 8 if index else size  # the size of what is free counts its header
        if step < HEADER:
            return False
        place += step
    return place <= end <= len(data)
