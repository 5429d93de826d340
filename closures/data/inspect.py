"""What a finished file of trajectories holds, and whether it still does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from closures.data.file import BEGIN, FORMAT, KIND, ORIGIN, chained, content_digest, read_rows
from solver.errors import RunFolderError
from solver.files.hdf5 import open_hdf5

DAMAGE = (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError, MemoryError)


def is_flow_file(path: Path) -> bool:
    """Whether a file says that it holds trajectories."""
    try:
        with open_hdf5(path) as file:
            return bool(plain(file.attrs.get("kind")) == KIND)
    except DAMAGE:
        return False


def describe_flow(path: Path) -> dict[str, Any]:
    """Attributes, datasets with their shapes, and the checksum that the file claims.

    Raises
    ------
    RunFolderError : missing, not such a file, or of another version.
    """
    with opened(path) as file:
        found: dict[str, Any] = {key: plain(value) for key, value in file.attrs.items()}
        shapes = datasets(file)
        n_traj, n_steps = file["statistics/moments"].shape[:2]
    sizes = {"trajectories": n_traj, "snapshots": n_steps, "bytes": path.stat().st_size}
    return found | sizes | {"path": str(path), "datasets": shapes}


def datasets(file: h5py.File) -> dict[str, Any]:
    """Shape and type of every dataset."""
    shapes: dict[str, Any] = {}
    file.visititems(
        lambda name, item: (
            shapes.update({name: (item.shape, str(item.dtype))}) if isinstance(item, h5py.Dataset) else None
        )
    )
    return shapes


def verify_flow(path: Path) -> dict[str, Any]:
    """Recompute every checksum, and the pooled statistics from the snapshots' own.

    Returns
    -------
    ``trajectories``, ``snapshots`` and ``sha256``.

    Raises
    ------
    RunFolderError : damaged; the first bad trajectory is named.
    """
    with opened(path) as file:
        claimed, n_steps = file["checksums"][()], file["statistics/moments"].shape[1]
        for trajectory, sha in enumerate(claimed):
            digest = BEGIN
            for frame in range(n_steps):
                digest = chained(digest, read_rows(file, trajectory, frame))
            if digest != sha.tobytes():
                raise RunFolderError(
                    f"{path}: damaged (trajectory {trajectory} does not match its checksum): generate it again"
                )
        total = content_digest(claimed, *(str(plain(file.attrs.get(key, ""))) for key in ("recipe", ORIGIN)))
        if total != plain(file.attrs["sha256"]):
            raise RunFolderError(f"{path}: damaged (the checksums do not match their sum): generate it again")
        mean = file["statistics/moments"][()].mean(axis=(0, 1))
        if not np.allclose(mean, file["statistics/mean"][()], rtol=1e-10, atol=1e-14):
            raise RunFolderError(f"{path}: damaged (the mean profiles are not those of the snapshots)")
    return {"trajectories": len(claimed), "snapshots": n_steps, "sha256": total}


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """In its context, what damage does to reading `path` is a RunFolderError: HDF5 meets it with errors of any kind."""
    try:
        yield
    except DAMAGE as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise RunFolderError(f"{path}: damaged, or not from `solver generate` ({reason}): make it again") from None


@contextmanager
def opened(path: Path, kinds: tuple[str, ...] = (KIND,)) -> Iterator[h5py.File]:
    """An open file of trajectories, or of another of `kinds`, in a context.

    Raises
    ------
    RunFolderError : missing, not such a file, of another version, or damaged where it is read.
    """
    if not path.is_file():
        raise RunFolderError(f"{path}: no such data file: make it with `solver generate`")
    try:
        file = open_hdf5(path)
    except OSError as error:
        raise RunFolderError(f"{path}: not an HDF5 file ({str(error).partition(';')[0]})") from None
    with file, reading(path):
        kind, version = (plain(file.attrs.get(key)) for key in ("kind", "format"))
        if kind not in kinds or version != FORMAT:
            raise RunFolderError(
                f"{path}: not trajectories of format {FORMAT} (format {version}): generate the file again"
            )
        yield file


def plain(value: Any) -> Any:
    """An attribute of HDF5 as Python has it."""
    if isinstance(value, bytes):
        return value.decode()
    return value.item() if isinstance(value, np.generic) and not isinstance(value, np.bytes_) else value
