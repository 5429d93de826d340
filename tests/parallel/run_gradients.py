"""What `test_gradients.py` launches: derivatives of what flows come to, by their beginning and by weights; one npz."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mpi4py import MPI
from torch import Tensor, nn

from closures.algebraic.dynamic_smagorinsky import DynamicSmagorinsky
from closures.coupling.split_model import subgrid_model
from closures.coupling.unrolled import Unrolled
from closures.operators import build
from solver.discretisation.calculus import Components
from solver.flow.batch import Batch
from solver.flow.forcing import MassFlux
from solver.flow.held_shells import HeldShells
from solver.flow.simulation import Simulation
from tests.grids import GRIDS, minus, operators, random_velocity, simulation
from tests.operators.fields import randomise

SEED, DT, STEPS, SEGMENT = 264_575, 2e-3, 3, 2
NU = 0.01


@dataclass(frozen=True)
class Kind:
    """A flow: its grid, what drives it, the network of its closure, and whether differences are taken, too."""

    grid: str
    forcing: Callable | None = None
    network: dict | None = None
    implicit: bool = False
    sloped: bool = False


CNN = {"name": "cnn", "width": 3, "depth": 2}
TENSORS = {"name": "tensor_basis", "width": 3, "depth": 1, "tensors": 2, "c_s": 0.1}
KINDS = {
    "channel": Kind("channel", lambda op: MassFlux(op, 1.0), CNN, sloped=True),
    "channel_implicit": Kind("channel", lambda op: MassFlux(op, 1.0), TENSORS, implicit=True),
    "box": Kind("box", lambda op: HeldShells(op, (0.4, 0.2)), TENSORS, sloped=True),
    "box_dynamic": Kind("box"),
    "periodic": Kind("periodic", lambda op: MassFlux(op, 1.0), CNN),
    "cavity": Kind("cavity", None, TENSORS),
}


def flow_of(kind: Kind) -> tuple[Simulation, nn.Module | None, Components]:
    """The flow, its network and a velocity."""
    grid, network, closure = GRIDS[kind.grid], None, None
    op = operators(grid)
    if kind.network is not None:
        about = dict(kind.network)
        network = randomise(build(about.pop("name"), **about).double(), SEED)
        closure = subgrid_model(network, grid=grid, nu=NU, precision="float64")
    else:
        closure = DynamicSmagorinsky(grid=grid, nu=NU)
    u, v, w = (0.5 * f for f in random_velocity(op, SEED))
    forcing = kind.forcing(op) if kind.forcing else None
    flow = simulation(op, (u, v, w), NU, DT, forcing, closure, implicit=kind.implicit)
    return flow, network, flow.velocity.coefficients


def far(flow: Simulation, end: Components, wanted: Components) -> Tensor:
    """Square of the distance of two velocities, the same on every rank."""
    op = flow.operators
    u, v, w = (op.inner_product(f, f, i) for i, f in enumerate(minus(end, wanted)))
    return u + v + w


def moved(flow: Simulation, start: Components, wanted: Components) -> Tensor:
    """The loss: how far from `wanted` the flow is after some steps, computed again in the backward pass."""
    return far(flow, Unrolled(flow, SEGMENT)(start, STEPS), wanted)


def derivative(flow: Simulation, leaves: list[Tensor], loss: Callable[[], Tensor]) -> tuple[float, list[Tensor]]:
    """The loss, and its gradients on this rank; those by weights summed over ranks."""
    slabs = flow.operators.decomposition
    with torch.enable_grad(), slabs.communicator.recording(torch.device("cpu")):
        value = loss()
        (value / slabs.size).backward()
    return float(value), [leaf.grad for leaf in leaves]


def gradients(kind: Kind) -> dict[str, np.ndarray]:
    """Of a flow: the loss, gradients by the velocity and by weights, and the slope along a direction, twice."""
    flow, network, start = flow_of(kind)
    op, wanted = flow.operators, random_velocity(flow.operators, SEED + 1)
    leaves = [f.clone().requires_grad_() for f in start] + (list(network.parameters()) if network else [])

    def loss() -> Tensor:
        return moved(flow, (leaves[0], leaves[1], leaves[2]), wanted)

    value, found = derivative(flow, leaves, loss)
    by_weights = [op.decomposition.sum(g) for g in found[3:]]
    results = {f"u{i}": op.gather(g) for i, g in enumerate(found[:3])}
    results |= {f"w{i}": g.numpy() for i, g in enumerate(by_weights)} | {"loss": np.array(value)}
    if kind.sloped and op.decomposition.size == 2:
        generator = torch.Generator().manual_seed(SEED + 2)
        ways = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in leaves[3:]]
        along = [*random_velocity(op, SEED + 3), *ways]
        slope = op.decomposition.sum(sum((g * d).sum() for g, d in zip(found[:3], along, strict=False)))
        slope = slope + sum((g * d).sum() for g, d in zip(by_weights, ways, strict=True))
        results["slopes"] = np.array([float(slope), difference(leaves, along, loss)])
    return results


def difference(leaves: list[Tensor], along: list[Tensor], loss: Callable[[], Tensor], step: float = 1e-5) -> float:
    """The slope of a loss, by a central difference."""
    ends = []
    for move in (step, -2.0 * step):
        for leaf, way in zip(leaves, along, strict=True):
            leaf.data += move * way
        ends.append(float(loss()))
    return (ends[0] - ends[1]) / (2.0 * step)


def together() -> dict[str, np.ndarray]:
    """Gradients through two flows that are advanced as one."""
    flow, _, start = flow_of(KINDS["channel"])
    op, batch = flow.operators, Batch([flow, flow])
    whole = Simulation(batch.flow, flow.state, batch.control)
    starts = [[(k + 1.0) * f.clone() for f in start] for k in range(2)]
    leaves = [f.requires_grad_() for one in starts for f in one]
    wanted = random_velocity(op, SEED + 1)

    def loss() -> Tensor:
        ends = batch.apart(Unrolled(whole)(batch.joined([tuple(one) for one in starts]), 2))
        return far(flow, ends[0], wanted) + far(flow, ends[1], wanted)

    value, found = derivative(flow, leaves, loss)
    return {"loss": np.array(value)} | {f"u{i}": op.gather(g) for i, g in enumerate(found)}


def main(path: str) -> None:
    results: dict[str, np.ndarray] = {}
    for name, kind in KINDS.items():
        results |= {f"{name}/{key}": f for key, f in gradients(kind).items() if f is not None}
    results |= {f"together/{key}": f for key, f in together().items() if f is not None}
    if MPI.COMM_WORLD.rank == 0:
        np.savez(Path(path), ranks=MPI.COMM_WORLD.size, **results)


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    main(sys.argv[1])
