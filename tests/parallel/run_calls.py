"""What `test_calls.py` launches: how often a rank waits for others in a step of flows of every kind; one npz file."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mpi4py import MPI

from closures.algebraic.wale import Wale
from solver.flow.forcing import MassFlux, PressureGradient
from solver.parallel import slabs as module
from tests.grids import GRIDS, operators, random_velocity, simulation

SEED = 580_127
FLOWS = {  # grid, forcing, closure
    "channel": ("channel", lambda op: PressureGradient(op, 0.5), False),
    "channel_mass_flux": ("channel", lambda op: MassFlux(op, 1.0), False),
    "channel_wale": ("channel", lambda op: PressureGradient(op, 0.5), True),
    "duct": ("duct", lambda op: PressureGradient(op, 0.5), False),
    "duct_mass_flux": ("duct", lambda op: MassFlux(op, 1.0), False),
    "box": ("box", None, False),
    "box_wale": ("box", None, True),
}
NO_WAIT = ("Isend", "Irecv")


class Counting:
    """A communicator that counts what is asked of it: calls that wait, and bytes sent to other ranks."""

    def __init__(self, comm: MPI.Intracomm) -> None:
        self.comm, self.calls, self.sent = comm, Counter(), Counter()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.comm, name)
        if not callable(found):
            return found

        def counted(*given: Any, **more: Any) -> Any:
            self.calls[name] += 1
            if name == "Isend":
                self.sent["halo"] += given[0].nbytes
            if name == "Alltoallv":
                array, counts = given[0]
                self.sent["all to all"] += (sum(counts) - counts[self.comm.rank]) * array.itemsize
            return found(*given, **more)

        return counted


class Waiting:
    """`MPI` with a `Waitall` that counts."""

    def __init__(self, comm: Counting) -> None:
        self.comm = comm

    def __getattr__(self, name: str) -> Any:
        return self if name == "Request" else getattr(MPI, name)

    def Waitall(self, requests: Any) -> None:
        self.comm.calls["Waitall"] += 1
        MPI.Request.Waitall(requests)


def count(grid: str, forcing: Any, modelled: bool) -> tuple[float, float, float]:
    """Waits a step, with the one question of the loop; bytes a step of a rank to its neighbours, and to all."""
    comm = Counting(MPI.COMM_WORLD)
    module.MPI = Waiting(comm)
    op = operators(grid, comm=comm)
    closure = Wale(grid=GRIDS[grid], nu=0.01) if modelled else None
    flow = simulation(op, random_velocity(op, SEED), 0.01, 1e-3, forcing and forcing(op), closure)
    flow.step()
    comm.calls.clear()
    comm.sent.clear()
    steps = 4
    for _ in range(steps):
        flow.step()
        op.decomposition.agree_on(False, False)
    waits = sum(n for name, n in comm.calls.items() if name not in NO_WAIT)
    return waits / steps, comm.sent["halo"] / steps, comm.sent["all to all"] / steps


def main(path: str) -> None:
    found = {name: np.array(MPI.COMM_WORLD.allgather(count(*flow))) for name, flow in FLOWS.items()}
    if MPI.COMM_WORLD.rank == 0:
        np.savez(Path(path), ranks=MPI.COMM_WORLD.size, **found)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    main(sys.argv[1])
