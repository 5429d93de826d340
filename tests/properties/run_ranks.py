"""What `test_ranks.py` launches on three ranks: flows drawn at random, each on one, two and all three of them.

``mpirun -n 3 python -m tests.properties.run_ranks FILE 500`` draws 500; the file tells what differed.
"""

from __future__ import annotations

import json
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mpi4py import MPI

from closures.registry.registry import create
from solver.case.solid_tables import PressureTable
from solver.errors import SolverError
from solver.flow.around_solids import flow_around
from solver.flow.forcing import Forcing, MassFlux, PressureGradient
from solver.grid.grid import Grid
from solver.solids.mask import Solids
from tests.grids import operators, random_components, simulation
from tests.properties.strategies import SEEDS, WALLS, bodies, cell_grids, grids
from tests.solids.flows import simulation as flow_between

STEPS = 3
SAME = 1e-8  # of the largest entry: three steps amplify round-off, solvers of pressure stop at 1e-12
REST = 1e-3  # noise of size one that has come to rest leaves what rounding makes of it
SPONGE = 0.3  # share of solid cells beyond which the solver of the box without them may give up, on any rank count
CLOSURES = ["none", "smagorinsky", "wale", "vreman", "sigma", "dynamic_smagorinsky"]


@dataclass(frozen=True)
class Flow:
    """A flow to be moved three steps."""

    grid: Grid
    solids: Solids | None
    method: str
    drive: str
    closure: str
    seed: int

    def run(self, comm: MPI.Intracomm) -> dict[str, np.ndarray] | str | None:
        """The fields afterwards on the root of `comm`; or why the flow is refused."""
        try:
            op = operators(self.grid, comm=comm)
            return self._moved(op)
        except SolverError as error:
            return f"{type(error).__name__}: {error}"

    def _moved(self, op) -> dict[str, np.ndarray] | None:
        scale = float(np.mean([axis.length for axis in self.grid.axes]))
        nu = 0.01 * scale
        start = random_components(op, self.seed)
        model = create(self.closure, grid=self.grid, nu=nu, options={})
        if self.solids is None:
            drives = {"none": lambda: Forcing(), "flux": lambda: MassFlux(op, 1.0)}
            forcing = drives.get(self.drive, lambda: PressureGradient(op, 1.0 / scale))()
            flow = simulation(op, start, nu, None, forcing, model)
        else:
            table = PressureTable(solver=self.method, tolerance=1e-12)
            momentum, projection = flow_around(op, nu, self.solids, table)
            around = MassFlux(op, 1.0, projection.response()) if self.drive == "flux" else Forcing()
            flow = flow_between(momentum, projection, start, None, around, model)
        for _ in range(STEPS):
            flow.step()
        gathered = {key: op.gather(f) for key, f in zip("uvw", flow.velocity.coefficients, strict=True)}
        return gathered if op.decomposition.is_root else None


@st.composite
def flows(draw) -> Flow:
    """Every kind of grid, with and without bodies, drives and models."""
    solid = draw(st.integers(0, 2)) == 0
    grid = draw(cell_grids(WALLS) if solid else grids(WALLS))
    drives = ["none", "flux", "gradient"] if grid.x.periodic else ["none"]
    solids = draw(bodies(grid)) if solid else None
    sponge = solids is not None and float(np.mean(solids.solid)) > SPONGE
    return Flow(
        grid,
        solids,
        "multigrid" if sponge else draw(st.sampled_from(["multigrid", "box"])),
        draw(st.sampled_from(drives)),
        draw(st.sampled_from(CLOSURES)),
        draw(SEEDS),
    )


def difference(serial: Any, parallel: Any) -> str | None:
    """What differs, in words."""
    if isinstance(serial, str) or isinstance(parallel, str):
        allowed = isinstance(parallel, str) and ("ranks" in parallel or parallel == serial)
        return None if allowed else f"{serial if isinstance(serial, str) else 'runs'} | {parallel}"
    size = max(REST, *(float(abs(f).max(initial=0.0)) for f in serial.values()))
    worst = max(float(abs(parallel[key] - f).max(initial=0.0)) for key, f in serial.items())
    return None if worst <= SAME * size else f"differ by {worst:.2e} of {size:.2e}"


class Comparison:
    """Flows on one, two and all ranks of the world."""

    def __init__(self, world: MPI.Intracomm) -> None:
        self.world, self.pair = world, world.Split(world.rank // 2, world.rank)
        self.compared, self.found = {2: 0, 3: 0}, []

    def judge(self, flow: Flow) -> None:
        """Move one flow (collective), and keep what differs."""
        serial = flow.run(MPI.COMM_SELF) if self.world.rank == 0 else None
        for ranks, comm in ((2, self.pair if self.world.rank < 2 else None), (3, self.world)):
            parallel = flow.run(comm) if comm is not None else None
            if self.world.rank == 0:
                self.compared[ranks] += not isinstance(parallel, str)
                if (problem := difference(serial, parallel)) is not None:
                    self.found.append(f"{ranks} ranks, {flow}: {problem}")


def draw_flows(comparison: Comparison, examples: int) -> None:
    """The root draws and tells the others: two processes need not draw the same."""
    world = comparison.world

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(flows())
    def check(flow: Flow) -> None:
        comparison.judge(world.bcast(flow))

    if world.rank == 0:
        check()
        world.bcast(None)
    else:
        while (flow := world.bcast(None)) is not None:
            comparison.judge(flow)


def main(path: str, examples: int) -> None:
    """Draw, run, compare."""
    world = MPI.COMM_WORLD
    comparison = Comparison(world)
    try:
        with torch.no_grad():
            draw_flows(comparison, examples)
    except BaseException:  # the other ranks wait for this one
        traceback.print_exc()
        world.Abort(1)
    if world.rank == 0:
        Path(path).write_text(json.dumps({"compared": comparison.compared, "found": comparison.found}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], int(sys.argv[2]))
