"""Kernels that the ranks of a node compile together, before the first step."""

from __future__ import annotations

from contextlib import suppress

import torch

from solver.discretisation import fusion
from solver.errors import Diverged
from solver.flow.companions import SolverStep
from solver.flow.simulation import Simulation
from solver.parallel import ranks


@torch.no_grad()
def compile_together(simulation: Simulation) -> None:
    """Compile the kernels of a step, each rank its share; those of others it finds in torch's cache (collective).

    The step is taken by plain torch, and forgotten. Nothing is done on one rank, where kernels are compiled as they
    are called, nor where some rank compiles nothing (slabs differ by a plane, nodes by a compiler), nor where the
    pressure is found iteratively: such a solver would remember the step.
    """
    flow, comm = simulation.flow, simulation.operators.decomposition.comm
    if comm.size == 1 or not flow.projection.is_exact or not all(comm.allgather(fusion.is_enabled())):
        return
    with fusion.gathering() as calls, suppress(Diverged):  # the first step of the run will say it again
        SolverStep(flow, simulation.control)(simulation.state)
    with ranks.on_node(comm) as node:
        for own in (True, False):
            for k, call in enumerate(calls):
                if (k % node.size == node.rank) is own and fusion.is_enabled():
                    call.compile()
            node.Barrier()
