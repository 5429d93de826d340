"""Run under mpirun: a closure of another package does the same on these ranks as on one, whatever it reads."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from mpi4py import MPI

from closures.coupling import GuardedModel, GuardTable, SubgridModel
from closures.registry import registry
from closures.registry.guest_checks import ClosureError
from solver.observers.checkpoint import _of_closure as stored
from tests.closures.flows import make_operators
from tests.closures.guest_package import installed
from tests.coupling.flows import NU, Rigged, box, channel, flow

torch.set_num_threads(1)
torch.set_grad_enabled(False)
worst, compared = 0.0, 0


def acted(grid, name, comm, **options):
    """The flow after three steps with the guest in it."""
    model = registry.create(name.removeprefix("guarded "), grid=grid, nu=NU, options=options)
    if name.startswith("guarded"):  # a network that is never right
        network = SubgridModel(Rigged(lambda gradient, _: gradient[:, :2].flatten(1, 2) * torch.nan), grid=grid, nu=NU)
        model = GuardedModel(network, model, GuardTable(patience=100), None)
    simulation = flow(grid, model, make_operators(grid, comm))
    for _ in range(3):
        simulation.step()
    return simulation


with installed():
    for name in ("mirror", "stresses", "forces", "neighbours", "guarded mirror"):
        for grid in (channel(), box()):
            whole, part = (acted(grid, name, comm) for comm in (MPI.COMM_SELF, MPI.COMM_WORLD))
            operators, states = part.operators, (part.closure_state, whole.closure_state)
            planes = operators.decomposition.planes
            for c, expected in zip(part.velocity.coefficients, whole.velocity.coefficients, strict=True):
                local = operators.scatter(expected.numpy())
                worst = max(worst, float((c - local).abs().max() / expected.abs().max()))
            if "before" in states[0]:
                worst = max(worst, float((states[0]["before"] - states[1]["before"][:, planes]).abs().max()))
                share = stored(part, "before", states[0]["before"])  # as checkpoints have it
                assert share.axis == 1
                worst = max(worst, float(np.abs(share.values - states[1]["before"][:, planes].numpy()).max()))
                assert int(states[0]["calls"]) == int(states[1]["calls"]) == 9
            compared += 1
    if MPI.COMM_WORLD.size > 1:
        with pytest.raises(ClosureError, match=r"build it on closures\.coupling\.GuardedUpdate, which gathers, or"):
            acted(channel(), "whole", MPI.COMM_WORLD, answer="good")
        compared += 1
worst = MPI.COMM_WORLD.allreduce(worst, op=MPI.MAX)
if MPI.COMM_WORLD.rank == 0:
    print(f"ranks {MPI.COMM_WORLD.size} compared {compared} worst {worst:.1e}")
sys.exit(0 if worst < 1e-11 else 1)
