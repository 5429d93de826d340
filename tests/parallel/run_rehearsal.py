"""What `test_rehearsal.py` launches: kernels of a channel that ranks compile together; one npz file."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
from mpi4py import MPI
from torch._dynamo.utils import counters

from solver.discretisation import fusion
from solver.run.rehearsal import compile_together
from tests.grids import operators, random_velocity, run, simulation

SEED = 314_771


def found(path: Path) -> None:
    """Kernels that each rank made and that it found, and the flow after two steps, compiled and plain."""
    comm = MPI.COMM_WORLD
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(path.with_suffix(""))
    op = operators("channel_even")
    flows = [simulation(op, random_velocity(op, SEED), 1e-3, 2e-3) for _ in range(2)]
    plain = run(flows[0], 2)
    fusion.enable(comm.rank == 0)
    compile_together(flows[1])  # returns, though one rank alone would compile
    early = comm.reduce(fusion.compiling.seconds, op=MPI.MAX, root=0)
    fusion.enable()
    compile_together(flows[1])
    seen = counters["inductor"]
    counted = comm.gather((seen["fxgraph_cache_miss"], seen["fxgraph_cache_hit"]), root=0)
    seconds = fusion.compiling.seconds
    compiled = run(flows[1], 2)
    left = comm.reduce(fusion.compiling.seconds - seconds, op=MPI.MAX, root=0)
    fields = [op.gather(c) for u in (plain, compiled) for c in u]
    if comm.rank == 0:
        np.savez(
            path, ranks=comm.size, counted=counted, early=early, left=left, **{str(k): f for k, f in enumerate(fields)}
        )


if __name__ == "__main__":
    found(Path(sys.argv[1]))
