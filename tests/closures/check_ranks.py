"""Run under mpirun: every closure gives on this rank's slab what one rank gives for the whole grid."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from mpi4py import MPI

sys.path.insert(0, str(Path(__file__).parents[2]))
from closures.registry import registry
from solver.errors import CaseError
from tests.closures.flows import KINDS, NU, VARIANTS, answer, make_grid, make_operators, make_velocity, random_fields

torch.set_num_threads(1)
torch.set_grad_enabled(False)
worst, compared = 0.0, 0
for kind in KINDS:
    grid = make_grid(kind)
    fields = random_fields(grid)
    whole = make_velocity(make_operators(grid), fields)
    part = make_velocity(make_operators(grid, MPI.COMM_WORLD), fields)
    planes = part.operators.decomposition.planes
    for name, options in VARIANTS:
        try:
            closure = registry.create(name, grid=grid, nu=NU, options=options)
        except CaseError:
            continue
        expected = answer(closure, whole)
        error = (answer(closure, part) - expected[:, :, planes]).abs().max() / expected.abs().max()
        states = []
        for velocity in (part, whole):  # later calls make use of what the first left
            state = closure(velocity, 0.0, closure.init(velocity.operators))[1]
            for t in (0.01, 0.02, 0.03):
                state = closure(velocity, t, state)[1]
            states.append(state)
        state, reference = states
        slabs = getattr(closure, "slabs", ())
        differences = []
        for key, value in state.items():
            kept = reference[key][:, planes] if key in slabs else reference[key]
            differences.append(float((value - kept).abs().max() / reference[key].abs().max().clamp_min(1.0)))
        worst, compared = max(worst, float(error), *differences), compared + 1
worst = MPI.COMM_WORLD.allreduce(worst, op=MPI.MAX)
if MPI.COMM_WORLD.rank == 0:
    print(f"ranks {MPI.COMM_WORLD.size} compared {compared} worst {worst:.1e}")
sys.exit(0 if worst < 1e-11 else 1)
