"""The files of a set, read as one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from closures.data.folder import SPLITS, files_of, is_of_sets, is_set, manifest
from closures.data.rows import FLOWS, FORMAT
from solver.errors import RunFolderError
from solver.files.hdf5 import open_hdf5

DAMAGE = (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError, MemoryError)


class Stacked:
    """A dataset of several files: their rows one after the other, read when asked for.

    Raises
    ------
    ValueError : their rows have different shapes.
    """

    def __init__(self, parts: Sequence[h5py.Dataset]) -> None:
        if len({part.shape[1:] for part in parts}) != 1:
            raise ValueError(f"{parts[0].name} has another shape in some of the files")
        self.parts, self.starts = parts, np.cumsum([0, *(len(part) for part in parts)])
        self.shape: tuple[int, ...] = (int(self.starts[-1]), *parts[0].shape[1:])
        self.dtype = parts[0].dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        """As of `h5py.Dataset`; the first index is a number or a slice."""
        row, *rest = key if isinstance(key, tuple) and key else (slice(None) if key == () else key,)
        if isinstance(row, slice):
            return np.concatenate([part[(slice(None), *rest)] for part in self.parts])[row]
        if not 0 <= row < len(self):
            raise IndexError(f"{self.parts[0].name} has no row {row}")
        place = int(np.searchsorted(self.starts, row, "right")) - 1
        return np.asarray(self.parts[place][(row - int(self.starts[place]), *rest)])


class Joined:
    """Open files read as one: what varies from row to row is all of theirs, everything else that of the first.

    Parameters
    ----------
    files : in the order of their rows.
    attributes : instead of those of the first file.
    """

    def __init__(self, files: Sequence[h5py.File], **attributes: Any) -> None:
        self.files, self.attrs = files, {**files[0].attrs, **attributes}

    def __contains__(self, name: str) -> bool:
        return name in self.files[0]

    def __getitem__(self, name: str) -> Any:
        parts = [file[name] for file in self.files]
        rows = isinstance(parts[0], h5py.Dataset) and (parts[0].attrs.get("sample_varying") or name == "checksums")
        return Stacked(parts) if rows and len(parts) > 1 else parts[0]

    def get(self, name: str, default: Any = None) -> Any:
        """The item, or `default` where there is none."""
        if name not in self:
            return default
        return self[name]


@contextlib.contextmanager
def joined(path: Path, splits: Sequence[str] = SPLITS) -> Iterator[Joined]:
    """The files of a set that are in these `splits` of it, open in a context, or a file alone.

    Raises
    ------
    FileNotFoundError, OSError : none, or not HDF5.
    RunFolderError : several sets, of which one has to be named, or a set that is not finished.
    """
    if is_of_sets(path):
        raise RunFolderError(
            f"{path}: holds sets of several grids: name one of them, {', '.join(manifest(path)['files'])}"
        )
    files = [file for split, files in files_of(path).items() if split in splits for file in files]
    if path.is_dir() and not is_set(path) and any(path.glob(".*.part")):
        raise RunFolderError(f"{path}: is not finished: go on with `solver generate`")
    if not files:
        raise FileNotFoundError(f"no files in {', '.join(str(path / split) for split in splits)}")
    with contextlib.ExitStack() as stack:
        known = {"sha256": manifest(path)["sha256"]} if is_set(path) else {}
        opened_files = [stack.enter_context(open_hdf5(file)) for file in files]
        try:
            found = Joined(opened_files, **known)
        except DAMAGE as error:  # HDF5 meets damaged attributes with errors of any kind
            raise OSError(f"damaged: {str(error).partition(chr(10))[0]}") from None
        yield found


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """In its context, what damage does to reading `path` is a RunFolderError: HDF5 meets it with errors of any kind."""
    try:
        yield
    except DAMAGE as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise RunFolderError(f"{path}: damaged, or not from `solver generate` ({reason}): make it again") from None


@contextlib.contextmanager
def opened(path: Path, kinds: tuple[str | None, ...] = (FLOWS,), splits: Sequence[str] = SPLITS) -> Iterator[Joined]:
    """A set of trajectories, or of another of `kinds`, as far as it is in `splits`, or a file, open in a context.

    Raises
    ------
    RunFolderError : missing, not such a set, of another version, or damaged where it is read.
    """
    if not path.exists():
        raise RunFolderError(f"{path}: no such data set: make it with `solver generate`")
    with contextlib.ExitStack() as stack:
        try:
            found = stack.enter_context(joined(path, splits))
        except OSError as error:
            raise RunFolderError(f"{path}: not an HDF5 file ({str(error).partition(';')[0]})") from None
        with reading(path):
            for file in found.files:
                kind, version = (plain(file.attrs.get(key)) for key in ("kind", "format"))
                if kind not in kinds or version != FORMAT:
                    raise RunFolderError(
                        f"{path}: not {kinds[0]} of format {FORMAT} ({kind} of format {version}): generate it again"
                    )
            yield found


def plain(value: Any) -> Any:
    """An attribute of HDF5 as Python has it."""
    if isinstance(value, bytes):
        return value.decode()
    return value.item() if isinstance(value, np.generic) and not isinstance(value, np.bytes_) else value
