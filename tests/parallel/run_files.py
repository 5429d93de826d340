"""What `test_files.py` launches: files that all ranks write together, and ranks that cannot; one npz file."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from solver.errors import RunFolderError
from solver.files import checkpoint_file as files
from solver.files.shares import Share, coefficients, planes
from solver.observers.snapshots import Snapshots
from solver.parallel import ranks
from tests.grids import operators, random_velocity, simulation, values

SEED = 267_914
KINDS = ("box", "channel", "duct", "cavity")
WAVE = 2 * np.pi / 6.0  # of the boxes of tests.grids along x
HELIX = (
    lambda x, y, z: 0 * (x + y + z),
    lambda x, y, z: torch.cos(WAVE * x) + 0 * (y + z),
    lambda x, y, z: -torch.sin(WAVE * x) + 0 * (y + z),
)


def noise(*shape: int) -> np.ndarray:
    """The same on every rank."""
    return np.random.default_rng(SEED).standard_normal(shape)


def some(kind: str) -> dict[str, np.ndarray | Share]:
    """Arrays of every sort: coefficients, batches of averages, closure state in single precision, small ones."""
    op = operators(kind)
    here, (nx, ny, nz) = op.decomposition.planes, op.grid.shape
    arrays: dict[str, np.ndarray | Share] = {}
    for i, name in enumerate("uvw"):
        whole = noise(op.transform.parts, *op.grid.coefficient_shape) + i
        arrays[f"velocity/{name}"] = coefficients(op, op.scatter(whole))
    arrays["statistics/sums"] = Share(noise(3, 4, ny, 1)[:, :, here], 2)
    arrays["closure/c"] = planes(torch.from_numpy(noise(nx, ny, nz).astype(np.float32)[:, here]))
    return arrays | {
        "statistics/none": Share(np.zeros((0, 4, len(noise(ny)[here]), 1)), 2),
        "grid/y": op.grid.y.centres,
    }


@contextlib.contextmanager
def writes(change) -> Iterator[None]:
    """Of this process, other ones."""
    original = os.pwrite
    os.pwrite = lambda file, data, offset: change(original, file, data, offset)
    try:
        yield
    finally:
        os.pwrite = original


def short(original, file, data, offset):
    """As on a disk that is nearly full: a part at a time."""
    return original(file, data[:100], offset)


def full(original, file, data, offset):
    """Not even that."""
    raise OSError(errno.ENOSPC, "No space left on device")


def refusal(path: Path, arrays: dict[str, np.ndarray | Share]) -> str:
    """What every rank is told, if all are told the same."""
    try:
        files.write(path, ranks.world(), arrays, {"t": 1.0})
    except RunFolderError as error:
        told = ranks.world().allgather(str(error))
        return told[0] if len(set(told)) == 1 else f"not the same: {told}"
    return "written"


def main(path: str) -> None:
    folder, world, found = Path(path).with_suffix(""), ranks.world(), {}
    for kind in KINDS:
        arrays = some(kind)
        files.write(folder / f"{kind}.h5", world, arrays, {"t": 1.5, "case": "{}"})
        with writes(short):
            files.write(folder / f"{kind}_short.h5", world, arrays, {"t": 1.5, "case": "{}"})
    before = (folder / "box.h5").read_bytes()
    with writes(full) if world.rank == world.size - 1 else contextlib.nullcontext():
        found["full"] = refusal(folder / "box.h5", some("box"))
    found["unwritable"] = refusal(folder / "box.h5/more.h5", some("box"))
    found["untouched"] = (folder / "box.h5").read_bytes() == before and not list(folder.glob(".*"))
    op = operators("box_even")
    flow = simulation(op, random_velocity(op, SEED), 0.0, 0.1)
    flow.velocity.__dict__["centred"] = tuple(values(op, f) for f in HELIX)
    flow.pressure = lambda: values(op, HELIX[1])
    Snapshots(folder, 1.0).write(flow)
    if world.rank == 0:
        np.savez(path, ranks=world.size, **found)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main(sys.argv[1])
