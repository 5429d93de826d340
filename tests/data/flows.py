"""A tiny filtered channel and a tiny filtered box; not a test itself, but what `test_filtered_dns.py` launches."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import h5py
import numpy as np

from closures.data import trajectory
from closures.data.generate import generate_flow
from solver.flow.simulation import Simulation
from solver.run.machine import prepare_process
from tests import runs

CHANNEL = """\
title = "Tiny channel"
seed = 350_377
trajectories = 3
test = 1
[grid.x]
kind = "fourier"
n = 10
length = "4 pi"
[grid.y]
kind = "finite_volume"
n = 12
end = 2.0
stretching = 1.5
[grid.z]
kind = "fourier"
n = 12
length = "2 pi"
[coarse.x]
kind = "fourier"
n = 6
length = "4 pi"
[coarse.y]
kind = "finite_volume"
n = 6
end = 2.0
stretching = 1.5
[coarse.z]
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
[filter]
horizontal = "box"
width = 0.7
[sampling]
spin_up = 0.5
interval = 0.25
snapshots = 5
[store]
staggered = true
stress = true
[run]
device = "cpu"
fuse = "off"
"""
BOX = """\
title = "Tiny box"
seed = 350_381
trajectories = 2
[grid.x]
kind = "fourier"
n = 12
length = "2 pi"
[grid.y]
kind = "fourier"
n = 12
length = "2 pi"
[grid.z]
kind = "fourier"
n = 12
length = "2 pi"
[coarse.x]
kind = "fourier"
n = 8
length = "2 pi"
[coarse.y]
kind = "fourier"
n = 8
length = "2 pi"
[coarse.z]
kind = "fourier"
n = 8
length = "2 pi"
[flow]
nu = 0.02
[initial]
kind = "isotropic"
amplitude = 1.5
[sampling]
spin_up = 0.0
interval = 0.1
snapshots = 4
[run]
device = "cpu"
fuse = "off"
"""


GRIDS = """\
coarse = [
  { n = [6, 6, 8], store = { stress = true, planes = true } },
  { n = [4, 5, 6] },
  { name = "cut", n = [6, 6, 8], filter = { horizontal = "sharp" }, store = { planes = true, velocity = false } },
]
"""  # instead of [coarse]


def listing(text: str, grids: str = GRIDS) -> str:
    """A recipe with a list of grids instead of its one."""
    before, _, after = text.partition("[coarse.x]")
    head, _, tables = before.partition("[grid.x]")
    return f"{head}{grids}[grid.x]{tables}[flow]{after.partition('[flow]')[2]}"


def write_recipe(folder: Path, text: str = CHANNEL, name: str = "tiny") -> Path:
    """A recipe file."""
    file = folder / f"{name}.toml"
    file.write_text(text)
    return file


def forked(recipe: Path, out: Path) -> multiprocessing.process.BaseProcess:
    """`generate_flow` in a fork, slowly, with a state after every step."""

    def child() -> None:
        step = Simulation.step

        def slowly(self: Simulation, longest: float = np.inf, wait: float = np.inf) -> None:
            step(self, longest, wait)
            time.sleep(0.1)

        Simulation.step, trajectory.SAVE_SECONDS = slowly, 0.0  # type: ignore[method-assign]
        generate_flow(recipe, out, quiet=True)

    process = multiprocessing.get_context("fork").Process(target=child, daemon=True)
    process.start()
    return process


def steps_of(state: Path) -> int:
    """Steps of a trajectory that are safe; all six for one that is complete."""
    try:
        with h5py.File(state) as file:
            return int(file.attrs.get("step", 6))
    except OSError:
        return 0


def kill_when(process: multiprocessing.process.BaseProcess, state: Path, steps: int, delay: float) -> None:
    """Kill -9 some time after a trajectory has come so far."""
    deadline = time.monotonic() + runs.PATIENCE
    while steps_of(state) < steps:
        assert process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    time.sleep(delay)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL


if __name__ == "__main__":
    prepare_process()
    generate_flow(Path(sys.argv[1]), Path(sys.argv[2]), quiet=True)
