"""Peak memory of a rank, above what an idle one holds: ``python bench/memory.py [--points 128] [--ranks 1 2 4 8]``.

A box and a channel of so many points a direction. Each row is the most that any rank needed, in MiB, while it drew the
initial noise, took a step, wrote a checkpoint and a snapshot (above the fields it held then), and read the checkpoint.
Linux only: it resets and reads the high-water mark of a process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from solver.errors import SolverError
from solver.files.checkpoint_file import latest
from solver.files.regrid import velocity_of
from solver.flow.initial import isotropic
from solver.observers.checkpoint import Checkpoint
from solver.observers.snapshots import Snapshots
from solver.parallel import ranks
from solver.run.build import source_of
from solver.run.speed import flow_simulation

FLOWS = ("box", "channel")
PARTS = ("noise", "step", "checkpoint", "snapshot", "read")
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}  # what is freed is given back
MIB = 2**20


def status(key: str) -> float:
    """``VmHWM`` or ``VmRSS`` of this process in MiB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1024


def peak(action: Callable[[], object], above: float | None = None) -> float:
    """The most that any rank holds during `action`, above so much or what it holds before."""
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS") if above is None else above
    kept = action()
    found = max(ranks.world().allgather(status("VmHWM") - before))
    del kept
    return found


def measure(flow: str, points: int, folder: Path) -> dict[str, float]:
    """The rows of one flow, after a small one has loaded all there is to load."""
    case = source_of(Path("taylor_green" if flow == "box" else "channel180")).case

    def once(n: int) -> dict[str, float]:
        idle, found = status("VmRSS"), {}
        place = folder / str(n)
        simulation = flow_simulation((n, n, n), flow, "cpu", torch.float64, lambda grid, nu: None)
        if flow == "box":
            found["noise"] = peak(lambda: isotropic(simulation.operators, 1.5, 3.0, None, 731))
        found["step"] = peak(simulation.step, idle)
        found["checkpoint"] = peak(lambda: Checkpoint(place, case, 0.0, []).write(simulation))
        found["snapshot"] = peak(lambda: Snapshots(place, 1.0).write(simulation))
        operators = simulation.operators
        comm = operators.decomposition.comm
        found["read"] = peak(lambda: velocity_of(latest(place, comm), operators))
        return found

    once(16)
    return once(points)


def main() -> None:
    """Measure on the ranks that this is launched on, or launch all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=128)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    if given.one:
        found = {flow: measure(flow, given.points, Path(given.one) / flow) for flow in FLOWS}
        if ranks.is_root():
            print(json.dumps(found))
        return
    print("| flow | ranks |", " | ".join(PARTS), "|\n| :-- | --: |" + " --: |" * len(PARTS))
    for count in given.ranks:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, "--points", str(given.points), "--one", folder]
            mpirun = ["mpirun", "--oversubscribe", "-n", str(count), *command]
            done = subprocess.run(mpirun, env=os.environ | MALLOC, capture_output=True, text=True)
        if done.returncode:
            raise SolverError(done.stderr)
        for flow, row in json.loads(done.stdout.strip().splitlines()[-1]).items():
            cells = " | ".join(f"{row[part]:.0f}" if part in row else "" for part in PARTS)
            print(f"| {flow} | {count} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
