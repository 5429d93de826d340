"""A tiny channel, and the command line in this process, in a fork of it, and under mpirun."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import h5py
import numpy as np
import pytest
import torch

from solver.cli.main import main

ROOT = Path(__file__).parents[1]
PATIENCE = 600  # seconds; the machine may be busy with other things
CASE = """\
title = "Tiny channel"
[grid.x]
kind = "fourier"
n = 8
length = "4 pi"
[grid.y]
kind = "finite_volume"
n = 9
end = 2.0
stretching = 1.5
[grid.z]
kind = "fourier"
n = 8
length = "2 pi"
[flow]
nu = 0.002
[flow.forcing]
kind = "mass_flux"
bulk_velocity = 1.0
[initial]
kind = "wall_turbulence"
seed = 73311
[closure]
name = "dynamic_smagorinsky"
every = 2
[time]
end = 9.0
[statistics]
start = 1.0
every_steps = 2
batches = 5
[output]
every_steps = 3
[run]
device = "cpu"
fuse = "off"
"""
MPI = {
    "OMP_NUM_THREADS": "1",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "OMPI_MCA_mpi_yield_when_idle": "1",
    "PYTHONPATH": str(ROOT),
}

needs_mpirun = pytest.mark.ranks  # see tests/conftest.py


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


def write_case(folder: Path) -> Path:
    """The tiny channel in a new case folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "case.toml").write_text(CASE)
    return folder


@contextlib.contextmanager
def command_line(*words: object) -> Iterator[None]:
    """What a process sets up once, for the length of a test."""
    argv, log = sys.argv, logging.getLogger("solver")
    handlers, level = log.handlers[:], log.level
    sys.argv = ["solver", *map(str, words)]
    try:
        with torch.set_grad_enabled(torch.is_grad_enabled()):
            yield
    finally:
        sys.argv, log.handlers[:] = argv, handlers
        log.setLevel(level)


def solver(*words: object, out: TextIO | None = None) -> Ended:
    """``solver words...`` in this process; what it prints goes to `out` if that is given."""
    page, err, code = io.StringIO(), io.StringIO(), None
    with contextlib.redirect_stdout(out or page), contextlib.redirect_stderr(err), command_line(*words):
        try:
            main()
        except SystemExit as end:
            code = end.code
    assert isinstance(code, int)
    return Ended(code, page.getvalue(), err.getvalue())


def forked(*words: object) -> multiprocessing.process.BaseProcess:
    """``solver words...`` in a fork of this process, which spares it the start."""

    def child() -> None:
        with command_line(*words):
            main()

    process = multiprocessing.get_context("fork").Process(target=child, daemon=True)
    process.start()
    return process


def mpirun(ranks: int, *command: object) -> subprocess.Popen[str]:
    """Python with `command` on so many ranks."""
    launch = ["mpirun", "--oversubscribe", "-n", str(ranks), sys.executable, *map(str, command)]
    pipe = subprocess.PIPE
    return subprocess.Popen(launch, env=os.environ | MPI, stdout=pipe, stderr=pipe, text=True, cwd=ROOT)


def ended(process: subprocess.Popen[str], patience: float = PATIENCE) -> Ended:
    """Wait for a launch."""
    try:
        out, err = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return Ended(process.returncode, out, err)


def on_ranks(counts: Sequence[int], module: str, folder: Path) -> dict[int, dict[str, np.ndarray]]:
    """The arrays that `module` writes into the file it is given, ``ranks`` among them, by how many ranks it ran on."""
    found = {}
    for ranks in counts:
        path = folder / f"{ranks}.npz"
        done = ended(mpirun(ranks, "-m", module, path))
        assert done.code == 0, done.out + done.err
        found[ranks] = dict(np.load(path))
        assert int(found[ranks]["ranks"]) == ranks  # not so many programs on one rank each
    return found


def summary(run: Path) -> dict[str, Any]:
    """``summary.json`` of a run folder."""
    return json.loads((run / "summary.json").read_text())


def checkpoints(run: Path) -> list[Path]:
    """Checkpoints of a run folder, the oldest first."""
    return sorted((run / "checkpoints").glob("step_*.h5"))


def arrays(file: Path) -> dict[str, np.ndarray]:
    """Every array of numbers of an HDF5 file."""
    found: dict[str, np.ndarray] = {}

    def keep(name: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind != "O":  # strings
            found[name] = item[()]

    with h5py.File(file) as opened:
        opened.visititems(keep)
    return found


def table(file: Path) -> np.ndarray:
    """A CSV file with a header, as numbers (words become NaN)."""
    return np.genfromtxt(file, delimiter=",", skip_header=1)


def assert_same(one: Sequence[Path], other: Sequence[Path], tolerance: float) -> None:
    """Files hold the same numbers, relative to the largest of each array."""
    for a, b in zip(one, other, strict=True):
        read = arrays if a.suffix == ".h5" else lambda file: {"table": table(file)}
        x, y = read(a), read(b)
        assert x.keys() == y.keys()
        for name in x.keys() - {"statistics/carry", "plane_spectra/carry", "batches/carry"}:  # round-off itself
            values = x[name]
            assert values.shape == y[name].shape, f"{a.name}: {name}"
            scale = tolerance * max(float(np.nanmax(np.abs(values), initial=0.0)), 1e-3)
            np.testing.assert_allclose(y[name], values, rtol=0, atol=scale, err_msg=f"{a.name}: {name}")
