"""``python -m tests.rank_runs [RANKS ...] [--flows NAME ...]``: flows on so many ranks, by default 1 2 3 5 8 16.

Each takes 100 steps, and writes a checkpoint after 50, from which the next number of ranks goes on, and the first from
the last. All end with the velocity of the first. `tests/parallel` has a part of it, on 1, 2 and 3 ranks.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from solver.files.checkpoint_file import latest
from solver.flow.simulation import Simulation
from solver.observers.checkpoint import Checkpoint, restore
from solver.parallel import ranks
from solver.run.build import Source, build, source_of
from tests import runs

HALF = 50  # steps
TOLERANCE = 1e-11  # of the largest velocity
SMALL = ("grid.x.n=32", "grid.y.n=17", "grid.z.n=12")
FLOWS = {
    "channel": ("channel180", SMALL, "dynamic_smagorinsky"),
    "duct": ("duct", SMALL, "wale"),
    "box": ("hit_forced", ("grid.x.n=20", "grid.y.n=18", "grid.z.n=12"), "dynamic_smagorinsky"),
    "cubes": ("cube_array", ("grid.x.n=16", "grid.y.n=16", "grid.z.n=16", "pressure.tolerance=1e-12"), "wale"),
}


def source(name: str) -> Source:
    """What is run."""
    case, changes, closure = FLOWS[name]
    return source_of(Path(case), ("run.device=cpu", "run.fuse=off", *changes), closure)


def ended(simulation: Simulation) -> np.ndarray | None:
    """The velocity after the second half, on the root."""
    for _ in range(HALF):
        simulation.step()
    gathered = [simulation.operators.gather(c) for c in simulation.velocity.coefficients]
    return None if gathered[0] is None else np.stack([f for f in gathered if f is not None])


def one(folder: Path, before: str, flows: list[str]) -> None:
    """Some flows on the ranks of this launch; they go on from the checkpoints of `before`, if that is given."""
    found = {}
    for name in flows:
        what = source(name)
        simulation = build(what)
        for _ in range(HALF):
            simulation.step()
        Checkpoint(folder / str(ranks.world_size()) / name, what.case, 0.0, []).write(simulation)
        found[f"{name}, whole"] = ended(simulation)
        if before:
            saved = latest(folder / before / name, ranks.world())
            simulation = build(what, saved, settled=True)
            restore(saved, simulation, [])
            found[f"{name}, from {before}"] = ended(simulation)
    if ranks.is_root():
        np.savez(folder / f"{ranks.world_size()}.npz", **found)


def campaign(counts: list[int], flows: list[str]) -> int:
    """Launch all; the number of differences."""
    failed, before, expected = 0, "", {}
    with tempfile.TemporaryDirectory() as folder:
        for count in [*counts, counts[0]]:
            began = time.monotonic()
            command = ("-m", "tests.rank_runs", "--folder", folder, "--before", before, "--flows", *flows)
            done = runs.ended(runs.mpirun(count, *command), runs.PATIENCE * count * len(flows))  # they share few cores
            if done.code:
                print(done.err)
                return 1
            found = dict(np.load(Path(folder) / f"{count}.npz"))
            expected = expected or found
            for key, velocity in found.items():
                first = expected[f"{key.partition(',')[0]}, whole"]
                off = float(abs(velocity - first).max() / abs(first).max())
                failed += not off < TOLERANCE
                print(f"{count} ranks, {key}: {off:.1e}", "" if off < TOLERANCE else "FAILED", flush=True)
            print(f"{count} ranks: {time.monotonic() - began:.0f} s", flush=True)
            before = str(count)
    return failed


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ranks", nargs="*", type=int, default=[1, 2, 3, 5, 8, 16])
    parser.add_argument("--flows", nargs="+", default=list(FLOWS), choices=list(FLOWS))
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)  # of a launch
    parser.add_argument("--before", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.folder is None:
        sys.exit(min(campaign(given.ranks, given.flows), 1))
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    one(given.folder, given.before, given.flows)


if __name__ == "__main__":
    main()
