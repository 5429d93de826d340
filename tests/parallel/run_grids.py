"""What `test_ranks.py` launches: a flow on every kind of grid, and what slabs promise; writes one npz file."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import torch
from mpi4py import MPI

from closures.algebraic.dynamic_smagorinsky import DynamicSmagorinsky
from closures.registry.registry import create
from solver.errors import CaseError
from solver.flow.batch import Batch
from solver.flow.closure import EddyViscosity
from solver.flow.forcing import MassFlux, PressureGradient, bulk_velocity
from solver.flow.held_shells import HeldShells
from solver.flow.initial import isotropic
from solver.grid.axis import FourierAxis, NoSlip
from solver.grid.grid import Grid
from solver.observers.statistics import Moments
from solver.parallel.communicator import Communicator
from solver.parallel.engines import Engine
from solver.parallel.slabs import Slabs
from tests.grids import operators, random_velocity, run, simulation, uneven, walls

SEED = 173_205
TURN = 2 * np.pi
LID = NoSlip((0.5, 0.0, 0.3))
CUBE = Grid(FourierAxis(15, TURN, "2/3"), FourierAxis(13, TURN), FourierAxis(11, TURN))


class Gradients:
    """An eddy viscosity that reads the gradient and the centred velocity, ghosts and all."""

    name, reach = "gradients", 0

    def init(self, op):
        return {}

    def __call__(self, velocity, t, state):
        speed = sum(f**2 for f in velocity.centred)
        return EddyViscosity(0.002 * (sum(d**2 for row in velocity.gradient for d in row) + speed).sqrt()), state


def bulk(op):
    """Constant mass flux."""
    return MassFlux(op, 1.0)


CHANNEL = Grid(FourierAxis(13, 6.0), walls(11), FourierAxis(15, 3.0, "2/3"))
RING = Grid(FourierAxis(9, 6.0), uneven(11, 2.0), FourierAxis(7, 3.0))
DUCT = Grid(FourierAxis(12, 6.0), walls(11), walls(9, 1.5))
CAVITY = Grid(walls(7, 1.0), walls(11, upper=LID), walls(5, 1.5))
FLOWS: dict[str, tuple[Grid, Callable | None, object, int]] = {  # grid, forcing, closure, steps
    "channel": (CHANNEL, bulk, Gradients(), 100),
    "box_held_shells": (CUBE, lambda op: HeldShells(op, (0.4, 0.2)), None, 100),
    "duct": (DUCT, bulk, None, 100),
    "duct_gradient": (DUCT, lambda op: PressureGradient(op, 0.5), None, 20),
    "cavity": (CAVITY, None, Gradients(), 100),
    "box_mass_flux": (CUBE, bulk, Gradients(), 30),
    "periodic": (RING, bulk, None, 30),
    "box_dynamic": (CUBE, None, DynamicSmagorinsky(grid=CUBE, nu=0.01, every=2), 20),
    "channel_implicit": (CHANNEL, bulk, Gradients(), 20),
    "duct_implicit": (DUCT, bulk, None, 20),
}
TOGETHER = {
    "dynamic_smagorinsky": {"every": 2},
    "two_part": {},
    "stabilised_mixed": {},
}  # the last one is asked in turn


def final_state(
    grid: Grid, forcing: Callable | None, closure: object, steps: int, implicit: bool
) -> dict[str, np.ndarray] | None:
    """Velocity, gradient and reductions after the run, on the root; longer steps where diffusion is implicit."""
    op = operators(grid)
    start = random_velocity(op, SEED)
    start = tuple(0.5 * f for f in start)
    flow = simulation(op, start, 0.01, 1e-2 if implicit else 1e-3, forcing and forcing(op), closure, implicit=implicit)
    velocity = run(flow, steps)
    gather = op.decomposition.gather_planes
    fields = {f"u{i}": gather(op.to_physical(f)) for i, f in enumerate(velocity)}
    fields |= {f"g{i}{j}": gather(flow.velocity.gradient[i][j]) for i in range(3) for j in range(3)}
    rates = float(flow.control(flow.velocity, None, flow.nu)), flow.control.advection_rate
    numbers = [
        op.inner_product(velocity[1], velocity[1]),
        bulk_velocity(op, velocity[0]),
        flow.max_divergence,
        *rates,
    ]
    if op.grid.x.is_fourier:
        fields["moments"] = gather(Moments(op).sample(flow, flow.present_term()))
    fields["numbers"] = torch.tensor([float(x) for x in numbers], dtype=torch.float64)
    return {key: f.numpy() for key, f in fields.items()} if op.decomposition.is_root else None


def batch_state() -> dict[str, np.ndarray]:
    """What two flows come to that are advanced as one, with means over planes and walls, on the root."""
    found = {}
    for name, options in TOGETHER.items():
        flows = []
        for seed in (SEED, SEED + 1):
            op = operators(CHANNEL)
            u, v, w = (0.5 * f for f in random_velocity(op, seed))
            closure = create(name, grid=CHANNEL, nu=0.01, options=options)
            flows.append(simulation(op, (u, v, w), 0.01, None, bulk(op), closure))
        batch = Batch(flows)
        for _ in range(10):
            batch.step()
        for number, flow in enumerate(flows):
            for i, f in enumerate(flow.velocity.coefficients):
                found[f"batch/{name} {number} u{i}"] = flow.operators.gather(f)
            found[f"batch/{name} {number} t"] = np.array([flow.t])
    return {key: f for key, f in found.items() if f is not None}


class Unpickled:
    """A communicator that pickles no arrays: large ones would not pass."""

    def __init__(self, comm) -> None:
        self.comm = comm

    def __getattr__(self, name):
        return getattr(self.comm, name)

    def gather(self, value, root=0):
        assert not isinstance(value, np.ndarray)
        return self.comm.gather(value, root)

    def scatter(self, values, root=0):
        assert not any(isinstance(value, np.ndarray) for value in values or ())
        return self.comm.scatter(values, root)


def refused(action: Callable) -> bool:
    """Whether an action ends in a CaseError that advises fewer ranks."""
    try:
        action()
    except CaseError as error:
        return "ranks" in str(error)
    return False


def slab_promises(periodic: bool, engine: Engine | None = None) -> dict[str, bool]:
    """What this rank finds true of halos, transposes, reductions and refusals; by MPI if no engine is given."""
    nx, ny = 7, 11
    shape = 2, nx, ny, 3
    slabs = Slabs(ny, nx, periodic, Communicator(Unpickled(MPI.COMM_WORLD), engine))
    rank, size = slabs.rank, slabs.size
    whole = torch.arange(float(np.prod(shape))).reshape(shape)
    mine, first, last = whole[:, :, slabs.planes], slabs.planes.start, slabs.planes.stop
    tests = {}
    for reach in range(1, min(3, ny // size) + 1):
        lower, upper = slabs.halo(mine, reach)
        around = [whole[:, :, [j % ny for j in js]] for js in (range(first - reach, first), range(last, last + reach))]
        inside = periodic or first > 0, periodic or last < ny
        tests[f"halo {reach}"] = all(
            torch.equal(got, want) if there else got is None
            for got, want, there in zip((lower, upper), around, inside, strict=True)
        )
    mixed = torch.complex(mine, -mine)
    lower, _ = slabs.halo(mixed)
    tests["halo of complex numbers"] = lower is None or torch.equal(lower.real, whole[:, :, [(first - 1) % ny]])
    tests["sum of whole numbers"] = int(slabs.sum(torch.tensor(2**53 + rank))) == size * 2**53 + size * (size - 1) // 2
    tests["to_modes"] = torch.equal(slabs.to_modes(mine), whole[:, slabs.modes])
    tests["to_planes"] = torch.equal(slabs.to_planes(whole[:, slabs.modes].clone()), mine)
    gathered = slabs.gather_planes(mine)
    tests["gather"] = torch.equal(gathered, whole) if slabs.is_root else gathered is None
    tests["scatter"] = torch.equal(slabs.scatter_planes(gathered), mine)
    shares = [whole[:, :, part % ny : part % ny + 1] for part in range(3, size + 3)]
    factor = 0.5 * size * (size + 1)
    tests["all planes"] = torch.equal(slabs.all_planes(mine, slabs.plane_counts), whole)
    tests["sum for each"] = torch.equal(
        slabs.sum_for_each(lambda other: (rank + 1.0) * shares[other]), factor * shares[rank]
    )
    tests["sum"] = float(slabs.sum(mine.sum())) == float(whole.sum())
    tests["max"] = float(slabs.max(mine.max())) == float(whole.max())
    tests["nan wins"] = bool(slabs.max(torch.tensor(np.nan if rank == size - 1 else 1.0)).isnan())
    tests["broadcast"] = slabs.broadcast({"rank": rank}) == {"rank": 0}
    tests["agree"] = slabs.agree(rank == size - 1) and not slabs.agree(False)
    if size > 1:
        tests["too few planes"] = refused(lambda: Slabs(size - 1, 64, periodic))
        tests["too few modes"] = refused(lambda: Slabs(64, size - 1, periodic).modes)
        tests["reach beyond a slab"] = refused(lambda: slabs.halo(mine, ny // size + 1))
    return tests


def main(path: str) -> None:
    torch.set_num_threads(1)
    results: dict[str, np.ndarray] = {}
    with torch.no_grad():
        for kind in ("walls", "periodic"):
            world = Slabs(64, 64, False)
            for name, kept in slab_promises(kind == "periodic").items():
                results[f"promise/{kind} {name}"] = np.array(not world.agree(not kept))
        op = operators(CUBE)
        noise = {f"noise/u{i}": op.gather(f) for i, f in enumerate(isotropic(op, 1.5, 3.0, None, SEED))}
        results |= {key: f for key, f in noise.items() if f is not None}
        results |= batch_state()
        for name, flow in FLOWS.items():
            results |= {f"{name}/{key}": f for key, f in (final_state(*flow, "implicit" in name) or {}).items()}
    if world.is_root:
        np.savez(path, ranks=world.size, **results)


if __name__ == "__main__":
    main(sys.argv[1])
