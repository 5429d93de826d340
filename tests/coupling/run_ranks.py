"""Run under mpirun: networks in the time loop (those named); the root writes the velocity after some steps."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from mpi4py import MPI

sys.path.insert(0, str(Path(__file__).parents[2]))
from closures.coupling.guard import COUNTS
from tests.closures.flows import make_operators
from tests.coupling.flows import box, channel, closure, flow

torch.set_num_threads(1)
torch.set_grad_enabled(False)
networks, steps, out = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
CASES = {
    "tensor_basis": ("subgrid_model", channel(), {}),
    "cnn": ("subgrid_model", channel(), {"form": "eddy_viscosity", "guard": {"size": 10.0}}),
    "cnn_box": ("subgrid_model", box(), {"guard": {"injection": 1.0, "size": 10.0}}),
    "overruled": ("subgrid_model", channel(), {"guard": {"size": 1e-6, "patience": 3, "then": "disable"}}),
    "corrector": ("corrector", channel(), {"every": 2, "base": "wale"}),
    "corrector_slabs": ("corrector", channel(), {"every": 2, "base": "wale"}),
    "corrector_box": ("corrector", box(), {"every": 2, "base": "smagorinsky"}),
    "surrogate": ("surrogate", channel(12, 9, 10), {"between": 0.02, "base": "dynamic_smagorinsky"}),
}
found = {}
if len(sys.argv) > 4:
    CASES = {name: CASES[name] for name in sys.argv[4:]}
for name, (role, grid, options) in CASES.items():
    simulation = flow(grid, closure(role, networks / name, grid, **options), make_operators(grid, MPI.COMM_WORLD))
    for _ in range(steps):
        simulation.step()
    for axis, c in zip("uvw", simulation.velocity.coefficients, strict=True):
        found[f"{name}/{axis}"] = simulation.operators.gather(c)
    found[f"{name}/counts"] = simulation.closure_state[COUNTS].numpy()
    if role != "subgrid_model":  # where one rank asks it, the weights are there alone
        predictor = simulation.closure.update.update.predictor
        found[f"{name}/asked"] = np.array(MPI.COMM_WORLD.allgather(predictor is not None))
if MPI.COMM_WORLD.rank == 0:
    np.savez(out, **found)
