"""What `test_slabs.py` launches: networks that change a velocity, slab by slab or on the owner; one npz file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from mpi4py import MPI
from torch import nn
from torch.nn.functional import pad

from closures.coupling.familiarity import Familiarity, features
from closures.coupling.guard import Guard, GuardTable, Overruled
from closures.coupling.guarded_update import GuardedUpdate
from closures.coupling.resample import network_grid
from closures.coupling.update import Update
from closures.operators import build
from closures.operators.noise import draws
from closures.operators.predictor import Predictor
from closures.operators.products import with_derivatives
from solver.discretisation.gradient import VelocityGradient
from solver.discretisation.velocity import Velocity
from solver.grid.axis import FourierAxis
from solver.grid.grid import Grid
from tests.coupling.flows import SCALING
from tests.grids import operators, random_velocity, uneven, walls
from tests.operators.fields import randomise

SEED = 410_233
CHANNEL = Grid(FourierAxis(6, 6.0), walls(13), FourierAxis(5, 3.0, "2/3"))
DUCT = Grid(FourierAxis(6, 6.0), walls(13), walls(5, 1.5))
BOX = Grid(FourierAxis(7, 6.0), FourierAxis(12, 5.0), FourierAxis(5, 3.0, "2/3"))
CELLS = Grid(FourierAxis(6, 6.0), uneven(11, 2.0), FourierAxis(5, 3.0))
THIN = Grid(FourierAxis(6, 6.0), walls(7), FourierAxis(5, 3.0))


class Local(nn.Module):
    """Two convolutions of 3 x 3 x 3 cells, which see nothing of slabs, of a derivative; and where the cells are."""

    kind, grid_free, symmetries, reach = "state", True, frozenset({"shift"}), 2

    def __init__(self) -> None:
        super().__init__()
        self.inward, self.outward = nn.Conv3d(3, 4, 3), nn.Conv3d(4, 3, 3)

    def forward(self, field, domain):
        field = with_derivatives(field, domain, (0.3, 0.3, 0.3))[:, 6:9]
        where = torch.sin(3.0 * domain.like(field).y.unit)[None, None, None, :, None]
        ends = "circular" if domain.y.periodic else "replicate"
        return self.outward(around(torch.tanh(self.inward(around(field * where, ends))), ends))


def around(field, ends):
    field = pad(field, (1, 1, 0, 0, 1, 1), mode="circular")
    return pad(field, (0, 0, 1, 1, 0, 0), mode=ends)


class Failing(nn.Module):
    """Differentiates, and fails on rank 1 before it does so again."""

    kind, grid_free, symmetries, reach = "state", True, frozenset({"shift"}), 0

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, field, domain):
        domain.y.extended(field)
        if MPI.COMM_WORLD.rank == 1 or MPI.COMM_WORLD.size == 1:
            raise RuntimeError("no memory")
        return domain.y.extended(field) * self.weight


def differential(**given: object) -> nn.Module:
    """With walls across z as well where they are."""
    return build("differential", width=5, layers=2, lengths=(0.4, 0.1, 0.3), gate="tanh", **given)


def in_box(**given: object) -> nn.Module:
    """For three periods."""
    return build("differential", width=5, layers=2, lengths=(0.4, 0.1, 0.3), periodic=(True, True, True), **given)


def in_duct() -> nn.Module:
    """For walls across z."""
    return build("differential", width=5, layers=2, lengths=(0.4, 0.1, 0.3), gate="tanh", periodic=(True, False, False))


def attention(name: str = "ifactformer_m", **given: object) -> nn.Module:
    """Small, with walls at both ends of y unless said otherwise."""
    options = {"width": 6, "heads": 2, "multiplier": 1, "iterations": 2, "modes": 2} | given
    return build(name, **options)


def fourier(name: str = "fno", **given: object) -> nn.Module:
    """Small, with walls at both ends of y unless said otherwise; more modes of z than there are."""
    return build(name, **({"width": 4, "hidden": 5, "modes": (2, 5, 4)} | given))


CASES: dict[str, tuple[Grid, Callable[[], nn.Module]]] = {
    "channel": (CHANNEL, differential),
    "no_slip": (CHANNEL, partial(differential, no_slip=True)),
    "duct": (DUCT, in_duct),
    "box": (BOX, in_box),
    "folded": (BOX, partial(in_box, dealias=False)),
    "cells": (CELLS, in_box),
    "attention": (CHANNEL, attention),
    "attention, chained": (CHANNEL, partial(attention, "ifactformer_o")),
    "attention, duct": (DUCT, partial(attention, walls=2)),
    "attention, box": (BOX, partial(attention, walls=0)),
    "attention, cells": (CELLS, partial(attention, "ifactformer_o", walls=0, positions="all")),
    "attention, products": (CHANNEL, partial(attention, products=(0.04, 0.01, 0.03), no_slip=True)),
    "fourier": (CHANNEL, partial(fourier, layers=2)),
    "fourier, implicit": (CHANNEL, partial(fourier, "ifno", iterations=2)),
    "fourier, duct": (DUCT, partial(fourier, layers=2, periodic=(True, False, False))),
    "fourier, box": (BOX, partial(fourier, layers=2, periodic=(True, True, True))),
    "fourier, cells": (CELLS, partial(fourier, layers=2, periodic=(True, True, True), modes=(2, 9, 4))),
    "drawn": (CHANNEL, partial(differential, noise=2)),
    "drawn, no_slip": (CHANNEL, partial(differential, noise=2, no_slip=True)),
    "drawn, box": (BOX, partial(in_box, noise=2)),
    "local": (CHANNEL, Local),
    "local_box": (BOX, Local),
    "fixed": (CHANNEL, differential),
    "fixed, duct": (DUCT, in_duct),
    "fixed, box": (BOX, in_box),
    "thin": (THIN, differential),
}
LIMITED = SCALING.model_copy(update={"limits": ((0.1, 1.05), (0.6, 1.02)), "drift": 0.3})  # some planes are beyond


HALF = ("channel", "box", "attention", "attention, chained", "fourier")


def change(name: str, **given: object) -> dict[str, np.ndarray]:
    """What a network makes of a velocity, how many planes it was shown and which features the velocity has."""
    grid, make = CASES[name]
    op = operators(grid, comm=MPI.COMM_WORLD)
    network, shown = randomise(make(), SEED, scale=0.3), []
    network.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0].shape[-2]))
    guard = Guard(GuardTable(size=1e3, growth=1e3), name, "nothing")
    units = LIMITED if name.startswith("fixed") else SCALING
    field = GuardedUpdate(Predictor(network, units), network_grid(grid), guard, **({"precision": "float64"} | given))
    velocity = Velocity(VelocityGradient(op), random_velocity(op, SEED))
    seen, found = field.update.seen(velocity), {}
    sharing = field.update.sharing(op)
    told = features(seen, sharing.own) if sharing.acts else None
    try:
        result = field(velocity, lambda u: u, (SEED,) if draws(network) else ())
        whole = [op.gather(c - b) for c, b in zip(result, velocity.coefficients, strict=True)]
    except Overruled as problem:
        found["reason"] = np.array(MPI.COMM_WORLD.allgather(str(problem)))
        whole = []
    found["shown"] = np.array(MPI.COMM_WORLD.allgather(sum(shown)))
    if MPI.COMM_WORLD.rank:
        return {}
    return found | {"features": told} | {f"change{i}": f for i, f in enumerate(whole)}


LEARNS = ("channel", "attention", "attention, chained", "attention, box", "fourier")


def gradient(name: str) -> np.ndarray:
    """Of the sum of squares of the change, with respect to all weights; over all ranks."""
    grid, make = CASES[name]
    op, network = operators(grid, comm=MPI.COMM_WORLD), randomise(make(), SEED, scale=0.3)
    update = Update(Predictor(network, SCALING), network_grid(grid), precision="float64")
    seen = update.seen(Velocity(VelocityGradient(op), random_velocity(op, SEED)))
    with torch.enable_grad(), op.decomposition.communicator.recording(op.device):
        weights = [weight.requires_grad_() for weight in network.parameters()]
        (update.evaluated(op, seen) ** 2).sum().backward()
    return op.decomposition.sum(torch.cat([weight.grad.flatten() for weight in weights])).numpy()


def main(path: str) -> None:
    found = {f"{name}/{key}": value for name in CASES for key, value in change(name).items()}
    found |= {f"{name}/gradient": gradient(name) for name in LEARNS}
    half = {"precision": "float32", "half_precision": True}
    for name in HALF:
        found |= {f"{name}, half/{key}": value for key, value in change(name, **half).items()}
    CASES["failing"] = CHANNEL, Failing
    found |= {f"failing/{key}": value for key, value in change("failing").items()}
    means = torch.zeros(1, 85, dtype=torch.float64)
    known = Familiarity(means, torch.eye(85, dtype=torch.float64)[None])
    found |= {f"foreign/{key}": value for key, value in change("channel", known=known).items()}
    if MPI.COMM_WORLD.rank == 0:
        np.savez(Path(path), ranks=MPI.COMM_WORLD.size, **found)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    main(sys.argv[1])
