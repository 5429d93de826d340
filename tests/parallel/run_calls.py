"""What `test_calls.py` launches: how often a rank waits for others in a step of flows of every kind; one npz file."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mpi4py import MPI

from closures.algebraic.wale import Wale
from solver.flow.forcing import MassFlux, PressureGradient
from solver.parallel import engines
from solver.parallel.communicator import Communicator
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
OTHERS = ("device_mpi", "process_group")


class Counting:
    """What counts the calls of something that ranks talk through."""

    def __init__(self, inner: Any, calls: Counter) -> None:
        self.inner, self.calls = inner, calls

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if not callable(found):
            return found

        def counted(*given: Any, **more: Any) -> Any:
            self.calls[name] += 1
            return found(*given, **more)

        return counted


class Waiting:
    """`MPI` with a `Waitall` that counts."""

    def __init__(self, calls: Counter) -> None:
        self.calls = calls

    def __getattr__(self, name: str) -> Any:
        return self if name == "Request" else getattr(MPI, name)

    def Waitall(self, requests: Any) -> None:
        self.calls["Waitall"] += 1
        MPI.Request.Waitall(requests)


class Weighing:
    """An engine that counts the bytes that go to other ranks."""

    def __init__(self, engine: engines.Engine, rank: int) -> None:
        self.engine, self.name, self.rank, self.sent = engine, engine.name, rank, Counter()
        self.reduce, self.gather = engine.reduce, engine.gather

    def shift(self, up: Any, down: Any, above: int | None, below: int | None) -> engines.Pair:
        for plane, dest in ((up, above), (down, below)):
            self.sent["halo"] += 0 if plane is None or dest is None else plane.nbytes
        return self.engine.shift(up, down, above, below)

    def exchange(self, send: torch.Tensor, counts: Sequence[int], back: Sequence[int]) -> torch.Tensor:
        self.sent["all to all"] += (sum(counts) - counts[self.rank]) * send.itemsize
        return self.engine.exchange(send, counts, back)


def count(name: str, grid: str, forcing: Any, modelled: bool) -> tuple[float, float, float]:
    """Waits a step, with the one question of the loop; bytes a step of a rank to its neighbours, and to all."""
    calls: Counter = Counter()
    comm = Counting(MPI.COMM_WORLD, calls)
    engines.MPI = Waiting(calls)
    engine = engines.choose(name, torch.device("cpu"), comm)
    if isinstance(engine, engines.ProcessGroup):
        engine.groups = {home: Counting(group, calls) for home, group in engine.groups.items()}
    weighing = Weighing(engine, comm.rank)
    op = operators(grid, comm=Communicator(comm, weighing))
    closure = Wale(grid=GRIDS[grid], nu=0.01) if modelled else None
    flow = simulation(op, random_velocity(op, SEED), 0.01, 1e-3, forcing and forcing(op), closure)
    flow.step()
    calls.clear()
    weighing.sent.clear()
    steps = 4
    for _ in range(steps):
        flow.step()
        op.decomposition.agree_on(False, False)
    waits = sum(n for name, n in calls.items() if name not in NO_WAIT)
    return waits / steps, weighing.sent["halo"] / steps, weighing.sent["all to all"] / steps


def main(path: str) -> None:
    found = {name: np.array(MPI.COMM_WORLD.allgather(count("mpi", *flow))) for name, flow in FLOWS.items()}
    for engine in OTHERS:
        for name in ("channel_wale", "box"):
            found[f"{engine}/{name}"] = np.array(MPI.COMM_WORLD.allgather(count(engine, *FLOWS[name])))
    if MPI.COMM_WORLD.rank == 0:
        np.savez(Path(path), ranks=MPI.COMM_WORLD.size, **found)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    main(sys.argv[1])
