"""What `test_ranks.py` launches: flows around bodies; writes one npz file."""

from __future__ import annotations

import sys

import numpy as np
import torch

from closures.registry.registry import create
from solver.case.solid_tables import PressureTable
from solver.flow.forcing import Forcing, MassFlux
from solver.grid.grid import Grid
from solver.parallel.slabs import Slabs
from tests.grids import random_components
from tests.solids.flows import BALL, CLOSED, OPEN, SEED, around, cells, simulation, taken

NU = 0.02
LATTICE = Grid(cells(8), cells(8), cells(8)), [BALL]
FLOWS = {  # grid and bodies, how the pressure is found, closure and its options, steps
    "channel": (CLOSED["channel"], "box", ("wale", {}), 4),
    "lattice": (LATTICE, "box", ("dynamic_smagorinsky", {"averaging": "local"}), 4),
    "plane": (OPEN["plane"], "box", ("none", {}), 10),
    "space": (OPEN["space"], "multigrid", ("vreman", {}), 2),
}


def final_state(flow_name: str) -> dict[str, np.ndarray]:
    """Velocity, pressure, impulse and reductions after the run, on the root."""
    (grid, shapes), solver, (name, options), steps = FLOWS[flow_name]
    momentum, projection = around(grid, shapes, NU, PressureTable(solver=solver, tolerance=1e-12))
    op = momentum.operators
    u, v, w = (0.3 * f for f in random_components(op, SEED))
    forcing = Forcing() if grid.is_open else MassFlux(op, 1.0, projection.response())
    model = create(name, grid=grid, nu=NU, options=options)
    flow = simulation(momentum, projection, (u + 1.0, v, w), 2e-3, forcing, model)
    for _ in range(steps):
        flow.step()
    gather = op.decomposition.gather_planes
    pressure = flow.flow.pressure_coefficients(flow.state)
    fields = {key: gather(f) for key, f in zip("uvwp", [*flow.velocity.coefficients, pressure], strict=True)}
    gradient = flow.velocity.gradient
    fields |= {f"g{i}{j}": gather(gradient[i][j]) for i in range(3) for j in range(3)}
    numbers = [*taken(flow), op.inflow_speed, flow.max_divergence]
    fields["numbers"] = torch.tensor(numbers, dtype=torch.float64)
    return {key: f.numpy() for key, f in fields.items()} if op.decomposition.is_root else {}


def main(path: str) -> None:
    torch.set_num_threads(1)
    world, results = Slabs(64, 64, False), {}
    with torch.no_grad():
        for name in FLOWS:
            results |= {f"{name}/{key}": f for key, f in final_state(name).items()}
    if world.is_root:
        np.savez(path, ranks=world.size, **results)


if __name__ == "__main__":
    main(sys.argv[1])
