"""The file of a checkpoint: what it holds, and reading it; its checksum tells damage, the newest good one is taken."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from solver.errors import RunFolderError

log = logging.getLogger("solver")
FORMAT = 1


@dataclass(frozen=True)
class Saved:
    """What a checkpoint holds: global arrays by path, and attributes."""

    arrays: Mapping[str, np.ndarray]
    attributes: Mapping[str, Any]

    @property
    def case(self) -> dict[str, Any]:
        """The resolved case as nested tables, not validated: another version may have written it."""
        return dict(json.loads(self.attributes["case"]))

    def group(self, name: str) -> dict[str, np.ndarray]:
        """Arrays below ``name/``."""
        return {key.removeprefix(f"{name}/"): a for key, a in self.arrays.items() if key.startswith(f"{name}/")}


def checksum(arrays: Mapping[str, np.ndarray], attributes: Mapping[str, Any]) -> str:
    """SHA-256 over names, shapes, values and attributes."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}{array.dtype}{array.shape}".encode())
        digest.update(array.data if array.size else b"")
    digest.update(repr(sorted((key, str(value)) for key, value in attributes.items())).encode())
    return digest.hexdigest()


def fill(file: h5py.File, arrays: Mapping[str, np.ndarray], attributes: Mapping[str, Any]) -> None:
    """Write arrays and attributes, and the checksum over both."""
    for name, array in arrays.items():
        file.create_dataset(name, data=array)
    file.attrs.update(attributes)
    file.attrs["sha256"] = checksum(arrays, attributes)


class DamagedCheckpoint(RunFolderError):
    """The file can be read and is not what was written."""


def read(path: Path) -> Saved:
    """Read and verify one checkpoint; locks are not asked for, because files are only ever replaced as a whole.

    Raises
    ------
    DamagedCheckpoint : its content is not what was written.
    RunFolderError : missing, not readable, or of another format.
    """
    arrays: dict[str, np.ndarray] = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            arrays[name] = item[()]

    try:
        with path.open("rb") as plain:
            plain.read(1)
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be read ({error.strerror}): give access to it and try again") from None
    try:
        with h5py.File(path, "r", locking=False) as file:
            file.visititems(keep)
            found = {key: v.item() if isinstance(v, np.generic) else v for key, v in file.attrs.items()}
        intact = found.pop("sha256", None) == checksum(arrays, found)
    except MemoryError:
        raise
    except Exception as error:  # HDF5 meets damage with errors of every kind
        reason = str(error).partition("\n")[0]
        raise DamagedCheckpoint(f"{path}: damaged checkpoint ({reason})") from None
    if not intact:
        raise DamagedCheckpoint(f"{path}: damaged checkpoint (its checksum does not match)")
    if found.get("format") != FORMAT:
        raise RunFolderError(f"{path}: checkpoint format {found.get('format')}, this version reads {FORMAT}")
    return Saved(arrays, found)


def checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run folder, the oldest first."""
    return sorted((run / "checkpoints").glob("step_*.h5"))


def latest(run: Path) -> Saved:
    """The newest good checkpoint of a run folder (or the file given); damaged ones are named and skipped.

    Raises
    ------
    RunFolderError : there is none, or one that is not damaged cannot be read.
    """
    if run.is_file():
        return read(run)
    if not run.is_dir():
        raise RunFolderError(f"{run}: no such run folder or checkpoint: give one that `solver run` has made")
    for path in reversed(checkpoints(run)):
        try:
            return read(path)
        except DamagedCheckpoint as error:
            log.warning("%s; trying the previous one", error)
    raise RunFolderError(f"{run}: no usable checkpoint in checkpoints/: run the case from its start, without --restart")
