"""Windows of velocity trajectories, from memory or streamed from HDF5 files in the layout of The Well.

A folder has files in ``train``, ``valid`` and ``test``, see `closures.data.folder`. The layout of each (Ohana et al.
2024, arXiv 2412.00568), with what a flow between walls needs besides::

    @nu  @filter  @case                      viscosity; how the fields were filtered; what flow they are of; none of
                                             them is needed: files of The Well itself lack all three
    @test_trajectories                       of a single file: numbers of those that no training may see
    dimensions/time, x, y, z                 (n_steps), (nx), (ny), (nz)
    dimensions/x_faces, ...                  (nx + 1), ... ends and faces of the cells; a walled direction needs them,
                                             a periodic one without them is evenly spaced
    boundary_conditions/<name>  @bc_type  @associated_dims    "PERIODIC" or "WALL", and the directions it closes
    t1_fields/velocity                       (n_traj, n_steps, nx, ny, nz, 3)
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from closures.data.folder import files_of, is_set, set_digest
from closures.data.opened import DAMAGE, Joined, joined
from closures.operators.domain import Domain, Line
from solver.errors import CaseError

FIELDS = "t1_fields/velocity"


class Trajectories(Protocol):
    """Where frames come from: (n_traj, n_steps, nx, ny, nz, 3) values on `domain`, `step` apart in time."""

    domain: Domain
    step: float
    start: float  # time of the first frame
    shape: tuple[int, ...]
    valid: tuple[int, ...]  # trajectories that choose; none leaves it to the training which
    test: tuple[int, ...]  # trajectories that neither train nor choose

    def read(self, trajectory: int, frames: slice) -> np.ndarray:
        """Frames of one trajectory, (frames, nx, ny, nz, 3)."""
        ...


class InMemory:
    """Trajectories given as an array (n_traj, n_steps, nx, ny, nz, 3).

    Raises
    ------
    CaseError : the array has another shape.
    """

    def __init__(self, velocity: np.ndarray, domain: Domain, step: float, start: float = 0.0) -> None:
        if velocity.ndim != 6 or velocity.shape[2:] != (*domain.shape, 3):
            raise CaseError(
                f"[data] velocity of shape {velocity.shape}: should be (n_traj, n_steps, *{domain.shape}, 3)"
            )
        self.velocity, self.domain, self.step, self.start = velocity, domain, step, start
        self.shape = velocity.shape
        self.valid: tuple[int, ...] = ()
        self.test: tuple[int, ...] = ()

    def read(self, trajectory: int, frames: slice) -> np.ndarray:
        """See `Trajectories`."""
        return self.velocity[trajectory, frames]


class FlowSet:
    """Flows in the files of a set, or in one: where their values lie, and which teach, choose or judge.

    Parameters
    ----------
    path : of the set.
    rows : an array in it whose first two dimensions are trajectories and times.

    Raises
    ------
    CaseError : missing, damaged, or not of the layout above; the message names what is missing.
    """

    def __init__(self, path: Path, rows: str = "statistics/moments") -> None:
        self.path = path
        with _reading(path) as files:
            self.shape: tuple[int, ...] = _field(files, rows).shape
            self.attributes = {k: v.item() if isinstance(v, np.generic) else v for k, v in files.attrs.items()}
            self.times = _numbers(files, "dimensions/time")
            self.domain = Domain(*(_line(files, name) for name in "xyz"))
            self.nu = _viscosity(files)
            self.valid, self.test = _kept(path, files, rows)

    @cached_property
    def sha256(self) -> str:
        """Checksum of the content of a set, or of a file."""
        if is_set(self.path):
            return str(self.attributes["sha256"])
        if self.path.is_file():
            with self.path.open("rb") as raw:
                return hashlib.file_digest(raw, "sha256").hexdigest()
        files = [file for files in files_of(self.path).values() for file in files]
        digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
        return set_digest({file.name: sha for file, sha in zip(files, digests, strict=True)})


class TrajectoryFiles(FlowSet):
    """Trajectories in the files of a set, or in one, read window by window; every process opens them for itself.

    Raises
    ------
    CaseError : missing, damaged, or not of the layout above; the message names what is missing.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, FIELDS)
        self._owner, self._open = -1, contextlib.ExitStack()
        if self.shape[2:] != (*self.domain.shape, 3) or self.times.shape != (self.shape[1],):
            raise CaseError(f"{path}: {FIELDS} of shape {self.shape} does not fit its dimensions")
        self.step, self.start = _spacing(self.times, path), float(self.times[0])

    def read(self, trajectory: int, frames: slice) -> np.ndarray:
        """See `Trajectories`."""
        return self._rows(FIELDS, trajectory, frames)

    def stress(self, trajectory: int, frames: slice) -> np.ndarray:
        """The subgrid stress of these frames, (frames, nx, ny, nz, 3, 3), velocity^2; raises CaseError without one."""
        return self._rows("t2_fields/subgrid_stress", trajectory, frames)

    def _rows(self, name: str, trajectory: int, frames: slice) -> np.ndarray:
        if self._owner != os.getpid():  # an HDF5 handle does not survive a fork
            self._open, self._owner = contextlib.ExitStack(), os.getpid()
            self._files = self._open.enter_context(joined(self.path))
        try:
            return np.asarray(self._files[name][trajectory, frames])
        except DAMAGE as error:
            reason = str(error).partition("\n")[0]
            raise CaseError(f"{self.path}: trajectory {trajectory} cannot be read ({reason})") from None

    def __getstate__(self) -> dict[str, Any]:
        kept = {key: value for key, value in self.__dict__.items() if key not in ("_open", "_files")}
        return kept | {"_owner": -1}


def has_fields(path: Path) -> bool:
    """Whether a set has fields, or their statistics alone; raises as `FlowSet`."""
    with _reading(path) as files:
        return FIELDS in files


def domain_of(path: Path) -> Domain:
    """Where the values of a set lie, whether it has fields or their statistics alone; raises as `TrajectoryFiles`."""
    with _reading(path) as files:
        return Domain(*(_line(files, name) for name in "xyz"))


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[Joined]:
    """The open files of a set of the layout above; what is wrong with it is a CaseError."""
    if not path.exists():
        made = path.with_suffix("")
        hint = f"a set is a folder now: give {made}" if made.is_dir() else "make it first, or give the path of one"
        raise CaseError(f"{path}: no such data set: {hint}")
    try:
        with joined(path) as files:
            yield files
    except DAMAGE as error:
        reason = str(error.args[0] if error.args else type(error).__name__).partition("\n")[0]
        raise CaseError(f"{path}: not a set of trajectories ({reason})") from None


def _field(files: Joined, name: str) -> Any:
    if name not in files:
        raise KeyError(f"{name} is missing")
    if getattr(files[name], "shape", None) is None:  # a group, or what HDF5 calls a null dataspace
        raise TypeError(f"{name} holds no values")
    return files[name]


def _numbers(files: Joined, name: str) -> np.ndarray:
    return np.asarray(_field(files, name), dtype=np.float64)


def _kept(path: Path, files: Joined, rows: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Numbers of the trajectories for validation and for tests."""
    if not path.is_dir():
        return (), tuple(int(n) for n in np.ravel(files.attrs.get("test_trajectories", ())))
    counts = [len(file[rows]) for file in files.files]
    of_row = np.repeat([split for split, kept in files_of(path).items() for _ in kept], counts)
    valid, test = (tuple(int(n) for n in np.flatnonzero(of_row == split)) for split in ("valid", "test"))
    return valid, test


def _viscosity(file: Joined) -> np.ndarray:
    """Of every trajectory or of all: the attribute ``nu``, or the scalar; 0 where the file does not say."""
    found = file.attrs.get("nu", file["scalars/nu"][()] if "scalars/nu" in file else 0.0)
    return np.atleast_1d(np.asarray(found, dtype=np.float64))


def _line(file: Joined, name: str) -> Line:
    """One direction of a file."""
    points = _numbers(file, f"dimensions/{name}")
    if points.ndim != 1 or not points.size:
        raise ValueError(f"dimensions/{name} should be a list of coordinates")
    kinds = [
        str(group.attrs["bc_type"]).upper()
        for group in file.get("boundary_conditions", {}).values()
        if name in [part.decode() if isinstance(part, bytes) else str(part) for part in group.attrs["associated_dims"]]
    ]
    if not kinds:
        raise KeyError(f"boundary_conditions has nothing about {name}")
    periodic = kinds[0] == "PERIODIC"
    if periodic and f"dimensions/{name}_faces" not in file:
        spacing = (points[-1] - points[0]) / max(len(points) - 1, 1)
        faces = points[0] + spacing * np.arange(len(points) + 1)
    else:
        faces = _numbers(file, f"dimensions/{name}_faces")
    if faces.shape != (len(points) + 1,) or not (np.diff(faces) > 0).all():
        raise ValueError(f"dimensions/{name}_faces should be one more than its points, and increase")
    length = float(faces[-1] - faces[0])
    weights = torch.from_numpy(np.diff(faces) / length)
    return Line(torch.from_numpy(points), weights, length, periodic, float(faces[0]))


def _spacing(times: np.ndarray, path: Path) -> float:
    gaps = np.diff(times) if times.ndim == 1 else np.zeros(0)
    if len(gaps) == 0 or gaps.min() <= 0 or not np.ptp(gaps) <= 1e-3 * gaps.mean():
        raise CaseError(f"{path}: dimensions/time should hold two or more evenly spaced times")
    return float(gaps.mean())


class Windows(Dataset[Tensor]):
    """Runs of ``steps + 1`` frames, `stride` apart, of the chosen trajectories: (steps + 1, 3, nx, ny, nz).

    Each begins `apart` frames after the one before.

    Raises
    ------
    CaseError : the trajectories are too short for one.
    """

    def __init__(
        self, source: Trajectories, trajectories: Sequence[int], steps: int = 1, stride: int = 1, apart: int = 1
    ) -> None:
        self.source, self.trajectories, self.stride, self.apart = source, list(trajectories), stride, apart
        self.reach = steps * stride
        self.starts = -(-(source.shape[1] - self.reach) // apart)
        if self.starts < 1 or not self.trajectories:
            raise CaseError(
                f"[data] {len(self.trajectories)} trajectories of {source.shape[1]} frames have no window of {steps} "
                f"steps of {stride} frames: make longer ones, or lower [data] stride or [loss] steps"
            )

    def __len__(self) -> int:
        return len(self.trajectories) * self.starts

    def __getitem__(self, index: int) -> Tensor:
        trajectory, number = divmod(index, self.starts)
        start = number * self.apart
        frames = slice(start, start + self.reach + 1, self.stride)
        window = np.moveaxis(self.source.read(self.trajectories[trajectory], frames), -1, 1)
        return torch.from_numpy(np.ascontiguousarray(window, dtype=np.float32))


def split(source: Trajectories, validation: float) -> tuple[list[int], list[int]]:
    """Whole trajectories for training and for validation: windows of one overlap.

    Those that the source keeps for tests are in neither. It may say which are for validation; else they are the
    share `validation` of the others, from the end.

    Raises
    ------
    CaseError : fewer than two are left.
    """
    free = [n for n in range(source.shape[0]) if n not in {*source.test, *source.valid}]
    if free and source.valid:
        return free, list(source.valid)
    held = max(1, round(validation * len(free)))
    if held >= len(free):
        kept = f", {source.shape[0] - len(free)} of them for tests" if source.test else ""
        raise CaseError(
            f"[data] {source.shape[0]} trajectories{kept}: cannot be split, two to train and validate on are the least"
        )
    return free[:-held], free[-held:]
