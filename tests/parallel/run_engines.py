"""What `test_engines.py` launches: what slabs promise, and flows, by each engine; writes one npz file."""

from __future__ import annotations

import sys

import numpy as np
import torch
from mpi4py import MPI

from closures.algebraic.dynamic_smagorinsky import DynamicSmagorinsky
from solver.flow.held_shells import HeldShells
from solver.grid.grid import Grid
from solver.parallel import engines
from solver.parallel.communicator import Communicator
from solver.parallel.slabs import Slabs
from tests.grids import operators, random_velocity, run, simulation
from tests.parallel.run_grids import CHANNEL, CUBE, Gradients, bulk, slab_promises

SEED = 223_607
NAMES = ("mpi", "device_mpi", "process_group")
FLOWS = {  # grid, forcing, closure
    "channel": (CHANNEL, bulk, Gradients()),
    "box": (CUBE, lambda op: HeldShells(op, (0.4, 0.2)), DynamicSmagorinsky(grid=CUBE, nu=0.01)),
}


def end(engine: engines.Engine, grid: Grid, forcing, closure) -> dict[str, np.ndarray]:
    """The velocity after some steps, on the root."""
    op = operators(grid, comm=Communicator(MPI.COMM_WORLD, engine))
    u, v, w = (0.5 * f for f in random_velocity(op, SEED))
    velocity = run(simulation(op, (u, v, w), 0.01, None, forcing(op), closure), 4)
    return {f"u{i}": whole for i, f in enumerate(velocity) if (whole := op.gather(f)) is not None}


def main(path: str) -> None:
    world, results = Slabs(64, 64, False), {}
    for name in NAMES:
        engine = engines.choose(name, torch.device("cpu"))
        for periodic in (False, True):
            for promise, kept in slab_promises(periodic, engine).items():
                results[f"promise/{name}/{periodic} {promise}"] = np.array(not world.agree(not kept))
        for flow, parts in FLOWS.items():
            results |= {f"{flow}/{name}/{key}": f for key, f in end(engine, *parts).items()}
    if world.is_root:
        np.savez(path, ranks=world.size, **results)


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    main(sys.argv[1])
