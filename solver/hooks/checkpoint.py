"""Checkpoints: one HDF5 file with all a restart needs, on any number of ranks.

Written to a temporary name, checksummed, renamed; never from a state that is not finite; the last two are kept.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from solver.case import Case
from solver.errors import RunFolderError
from solver.operators import Components, Operators
from solver.rundir import write_atomically
from solver.simulation import Simulation

log = logging.getLogger("solver")
FORMAT = 1


@dataclass(frozen=True)
class Saved:
    """What a checkpoint holds: global arrays by path, and attributes."""

    arrays: Mapping[str, np.ndarray]
    attributes: Mapping[str, Any]

    def group(self, name: str) -> dict[str, np.ndarray]:
        """Arrays below ``name/``."""
        return {
            key.removeprefix(f"{name}/"): a for key, a in self.arrays.items() if key.startswith(f"{name}/")
        }


def checksum(arrays: Mapping[str, np.ndarray], attributes: Mapping[str, Any]) -> str:
    """SHA-256 over names, shapes, values and attributes."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}{array.dtype}{array.shape}".encode())
        digest.update(array.data if array.size else b"")
    digest.update(repr(sorted((key, str(value)) for key, value in attributes.items())).encode())
    return digest.hexdigest()


class Checkpoint:
    """Writes a checkpoint every `interval` time units and every `seconds` of wall clock.

    `parts` are the hooks whose ``state()`` belongs in it.
    """

    name = "checkpoint"

    def __init__(
        self, folder: Path, case: Case, interval: float, parts: Sequence[Any], seconds: float = 600.0
    ) -> None:
        self.folder, self.case, self.interval, self.parts, self.seconds = (
            folder / "checkpoints",
            case,
            interval,
            parts,
            seconds,
        )
        self.next: float | None = None
        self.written_at = time.monotonic()

    def __call__(self, simulation: Simulation) -> None:
        """Write, if it is time; the ranks agree on the root's clock."""
        if self.next is None:
            self.next = simulation.t - simulation.dt + self.interval
        late = simulation.operators.decomposition.agree(time.monotonic() - self.written_at > self.seconds)
        if late or (self.interval > 0 and simulation.t >= self.next):
            with simulation.timers("output"):
                self.write(simulation)

    def write(self, simulation: Simulation) -> None:
        """Write the present state (collective)."""
        op = simulation.operators
        self.written_at, self.next = time.monotonic(), simulation.t + self.interval
        finite = all(bool(torch.isfinite(c).all()) for c in simulation.velocity.coefficients)
        if op.decomposition.agree(not finite):
            log.warning("step %d: the field is not finite, no checkpoint is written", simulation.step_count)
            return
        arrays: dict[str, Any] = {
            f"velocity/{n}": op.gather(c)
            for n, c in zip("uvw", simulation.velocity.coefficients, strict=True)
        }
        arrays |= {f"closure/{n}": _gather_state(op, v) for n, v in simulation.closure_state.items()}
        for part in self.parts:
            arrays |= {f"{part.name}/{n}": a for n, a in part.state().items()}
        if not op.decomposition.is_root:
            return
        for name, axis in zip("xyz", op.grid.axes, strict=True):
            arrays[f"grid/{name}"] = axis.centres
        attributes = {
            "format": FORMAT,
            "t": simulation.t,
            "step": simulation.step_count,
            "dt": simulation.dt,
            "case": self.case.model_dump_json(),
        }
        path = self.folder / f"step_{simulation.step_count:08d}.h5"
        write_atomically(path, lambda target: _write(target, arrays, attributes))
        for old in sorted(self.folder.glob("step_*.h5"))[:-2]:
            old.unlink()


def _gather_state(op: Operators, value: Tensor) -> np.ndarray | None:
    """Closure state: tensors shaped like a slab are joined along y, others are the same on every rank."""
    slab = value.ndim >= 3 and value.shape[-2] == op.decomposition.local_ny
    whole = op.decomposition.gather_planes(value) if slab else value.cpu()
    return None if whole is None else whole.numpy()


def _write(path: Path, arrays: Mapping[str, np.ndarray], attributes: Mapping[str, Any]) -> None:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array)
        file.attrs.update(attributes)
        file.attrs["sha256"] = checksum(arrays, attributes)


def read(path: Path) -> Saved:
    """Read and verify one checkpoint.

    Raises
    ------
    RunFolderError : missing, damaged, or of another format.
    """
    arrays: dict[str, np.ndarray] = {}
    try:
        with h5py.File(path, "r") as file:
            file.visititems(
                lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
            attributes = {
                key: value.item() if isinstance(value, np.generic) else value
                for key, value in file.attrs.items()
            }
    except (OSError, RuntimeError, KeyError) as error:
        raise RunFolderError(f"{path}: damaged checkpoint ({str(error).splitlines()[0]})") from None
    if attributes.pop("sha256", None) != checksum(arrays, attributes):
        raise RunFolderError(f"{path}: damaged checkpoint (its checksum does not match)")
    if attributes.get("format") != FORMAT:
        raise RunFolderError(
            f"{path}: checkpoint format {attributes.get('format')}, this version reads {FORMAT}"
        )
    return Saved(arrays, attributes)


def latest(run: Path) -> Saved:
    """The newest good checkpoint of a run folder (or the file given); damaged ones are named and skipped.

    Raises
    ------
    RunFolderError : there is none.
    """
    if run.is_file():
        return read(run)
    for path in sorted((run / "checkpoints").glob("step_*.h5"), reverse=True):
        try:
            return read(path)
        except RunFolderError as error:
            log.warning("%s; trying the previous one", error)
    raise RunFolderError(
        f"{run}: holds no usable checkpoint in checkpoints/: run the case from its start, without --restart"
    )


def velocity_of(saved: Saved, operators: Operators) -> Components:
    """This rank's velocity coefficients, interpolated if the checkpoint is of another grid.

    Fourier directions keep the modes both grids have; finite-volume directions are interpolated linearly.
    """
    fields = []
    for component, name in enumerate("uvw"):
        field = saved.arrays[f"velocity/{name}"]
        fields.append(operators.scatter(_regrid(field, saved, operators, component)))
    return fields[0], fields[1], fields[2]


def _regrid(field: np.ndarray, saved: Saved, operators: Operators, component: int) -> np.ndarray:
    grid = operators.grid
    if field.shape[0] != operators.transform.parts:
        raise RunFolderError(
            "the checkpoint is of another kind of grid (Fourier against finite-volume): it cannot be interpolated"
        )
    half = 2 if grid.z.is_fourier and grid.x.is_fourier else 0
    for axis, line in enumerate(grid.axes):
        wanted, have = grid.coefficient_shape[axis], field.shape[axis + 1]
        if line.is_fourier:
            field = _resize_modes(field, axis + 1, wanted, full=axis != half) if wanted != have else field
        else:
            old = saved.arrays[f"grid/{'xyz'[axis]}"]
            if len(old) != wanted or not np.allclose(old, line.centres, rtol=0, atol=1e-12 * line.length):
                field = _interpolate(field, axis + 1, old, line, staggered=axis == component)
    return field


def _resize_modes(field: np.ndarray, axis: int, wanted: int, full: bool) -> np.ndarray:
    field = np.moveaxis(field, axis, -1)
    resized = np.zeros((*field.shape[:-1], wanted), field.dtype)
    if full:
        kept = (min(wanted, field.shape[-1]) - 1) // 2
        resized[..., : kept + 1] = field[..., : kept + 1]
        if kept:
            resized[..., -kept:] = field[..., -kept:]
    else:
        kept = min(wanted, field.shape[-1])
        resized[..., :kept] = field[..., :kept]
    return np.moveaxis(resized, -1, axis)


def _interpolate(
    field: np.ndarray, axis: int, old_centres: np.ndarray, line: Any, staggered: bool
) -> np.ndarray:
    lower, upper = line.faces[0], line.faces[-1]
    if staggered:  # upper faces; the lower wall has no flow through it
        edges = [lower]
        for centre in old_centres:
            edges.append(2 * centre - edges[-1])
        source, target = np.array(edges), line.faces[1:]
        field = np.concatenate([np.zeros_like(np.take(field, [0], axis)), field], axis)
    else:
        source, target = np.concatenate([[lower], old_centres, [upper]]), line.centres
        zero = np.zeros_like(np.take(field, [0], axis))
        field = np.concatenate([zero, field, zero], axis)
    place = np.clip(np.searchsorted(source, target) - 1, 0, len(source) - 2)
    share = (target - source[place]) / (source[place + 1] - source[place])
    shape = [1] * field.ndim
    shape[axis] = -1
    share = share.reshape(shape)
    return (1 - share) * np.take(field, place, axis) + share * np.take(field, place + 1, axis)


def restore(saved: Saved, simulation: Simulation, parts: Sequence[Any]) -> None:
    """Continue time, step, closure state and hooks from a checkpoint of the same grid."""
    simulation.t, simulation.step_count = float(saved.attributes["t"]), int(saved.attributes["step"])
    simulation.dt = float(saved.attributes["dt"])
    op, planes = simulation.operators, simulation.operators.decomposition.planes
    for name, array in saved.group("closure").items():
        like = simulation.closure_state.get(name)
        if like is not None:
            local = array if tuple(like.shape) == array.shape else array[..., planes, :]
            simulation.closure_state[name] = torch.as_tensor(local, dtype=like.dtype, device=op.device)
    for part in parts:
        if group := saved.group(part.name):
            part.restore(group)
