"""A paper model of strong and weak scaling: ``python bench/scale.py`` prints the tables of ``bench/scale.md``.

What a rank sends and how often it waits is counted: a step of the solver on a rank of a communicator that talks to
nobody. Speeds of machines are constants, stated in `Machine`; none of the times is measured.
"""

# ruff: noqa: N802  methods of communicators are called so
from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from solver.discretisation.calculus import Operators
from solver.flow.flow import Flow
from solver.flow.forcing import Forcing, PressureGradient
from solver.flow.initial import taylor_green, wall_turbulence
from solver.flow.runge_kutta import RK3
from solver.flow.simulation import Simulation
from solver.flow.time_step import StepControl
from solver.grid.axis import FiniteVolumeAxis, FourierAxis, NoSlip, stretched_faces
from solver.grid.grid import Grid
from solver.parallel.communicator import Communicator
from solver.parallel.engines import Pair
from solver.parallel.slabs import Slabs

POINTS = 48  # of the flow that is counted, on each of the numbers of ranks
COUNTED = (4, 8)
WEAK_CPU, WEAK_GPU = 64**3, 512 * 512 * 256  # points a core, and a GPU


class Nobody:
    """So many ranks, none of which is there, and their engine: it counts what one would send and wait for."""

    name = "nobody"

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self.waits: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()

    def shift(self, up: Tensor | None, down: Tensor | None, above: int | None, below: int | None) -> Pair:
        """Fluid at rest comes from both neighbours."""
        self.waits["halo"] += 1
        self.bytes["halo"] += sum(f.nbytes for f in (up, down) if f is not None)
        lower, upper = (None if f is None else torch.zeros_like(f) for f in (up, down))
        return lower, upper

    def exchange(self, send: Tensor, counts: Sequence[int], back: Sequence[int]) -> Tensor:
        """A transpose; nothing comes from others."""
        self.waits["transpose"] += 1
        self.bytes["transpose"] += (sum(counts) - counts[self.rank]) * send.itemsize
        return send.new_zeros(sum(back))

    def reduce(self, value: Tensor, largest: bool = False) -> Tensor:
        """As if all had the same."""
        self.waits["sum"] += 1
        return value

    def gather(self, own: Tensor, counts: Sequence[int]) -> Tensor:
        """No step asks for it."""
        raise NotImplementedError

    def Allreduce(self, send: np.ndarray, receive: np.ndarray, op: Any) -> None:
        """The question of the loop."""
        self.waits["sum"] += 1
        receive[...] = send


@dataclass(frozen=True)
class Counts:
    """Of a stage and a rank: waits, planes that it sends to neighbours, bytes that it sends to all.

    The latter by points of x and z: so many for each of its planes, and besides.
    """

    halos: float
    transposes: float
    sums: float
    planes: float
    per_point: float
    per_column: float

    @property
    def sweeps(self) -> bool:
        """Whether slabs are solved one after the other in what they send to all: channels, whose y has cells."""
        return self.planes > 0


@dataclass(frozen=True)
class Machine:
    """Constants of a machine.

    Parameters
    ----------
    point : seconds a point and stage.
    fixed : seconds a stage that do not depend on the grid: Python, launches.
    per_node : ranks of a node.
    network, inside : bytes a second and rank, to other nodes and within a node.
    latency : seconds a wait; peer : seconds a rank that a transpose talks to.
    step : seconds a slab that one of the two sweeps over the slabs of a channel takes.
    memory : bytes a rank has, of which a flow needs `PER_POINT` a point.
    """

    name: str
    point: float
    fixed: float
    per_node: int
    network: float
    inside: float
    latency: float
    peer: float
    step: float
    memory: float


PER_POINT = 190.0
# 128 cores a node, 80 core-nanoseconds with all of them busy, 200 Gb/s a node at 60 %, 120 GB/s within it, 4 GB a core
CPU = Machine("128-core nodes", 80e-9, 0.9e-3, 128, 15e9 / 128, 120e9 / 128, 2e-6, 1e-6, 3e-6, 4e9)
# assumed: 16 threads a rank, at 80 % of the speed of ranks
SHARED = "128-core nodes, 16 threads a rank (not measured)"
THREADS = Machine(SHARED, 6.25e-9, 0.9e-3, 8, 15e9 / 8, 15e9, 2e-6, 1e-6, 3e-6, 64e9)
# 8 H200 a node; fields pass through pageable memory of the host at 4 GB/s a GPU: what the code does
STAGED = Machine("H200, through the host", 0.37e-9, 1.3e-3, 8, 4e9, 4e9, 60e-6, 2e-6, 6e-6, 130e9)
# assumed: 400 Gb/s a GPU at 35 GB/s, NVLink at 300 GB/s, stages as graphs
DIRECT = Machine("H200, NCCL and graphs (not measured)", 0.15e-9, 0.25e-3, 8, 35e9, 300e9, 12e-6, 2e-6, 2e-6, 130e9)


def counted(flow: str, ranks: int) -> tuple[Nobody, Operators]:
    """A step of a channel or a box without a model, on a rank with two neighbours; with the loop's question."""
    nobody = Nobody(ranks // 2, ranks)
    comm = Communicator(nobody, nobody)  # type: ignore[arg-type]
    n, cpu, channel = POINTS, torch.device("cpu"), flow == "channel"
    fourier = FourierAxis(n, 2 * np.pi, "2/3")
    y = FiniteVolumeAxis(stretched_faces(n, 0.0, 2.0, 1.7), NoSlip(), NoSlip()) if channel else fourier
    grid = Grid(fourier, y, fourier)
    op = Operators(grid, Slabs(n, grid.coefficient_shape[0], y.periodic, comm), cpu, torch.float64)
    velocity = wall_turbulence(op, 1.0, 1e-3, 1.0, 731) if channel else taylor_green(op, 1.0)
    motion = Flow(op, 1e-3, None, PressureGradient(op, 1.0) if channel else Forcing())
    simulation = Simulation(motion, motion.start(velocity), StepControl(op, 1.0, dt=1e-4))
    nobody.waits.clear()
    nobody.bytes.clear()
    simulation.step()
    op.decomposition.agree_on(False, False)
    return nobody, op


def count(flow: str) -> Counts:
    """The counts, of two numbers of planes: what is sent to all is linear in it."""
    sent, planes = [], []
    for ranks in COUNTED:
        comm, op = counted(flow, ranks)
        planes.append(op.decomposition.local_ny)
        sent.append(comm.bytes["transpose"] * ranks / (ranks - 1) / RK3.stages)
    nx, _, nz = op.grid.shape
    plane = op.transform.parts * op.grid.coefficient_shape[0] * op.grid.coefficient_shape[2] * op.dtype.itemsize
    slope = (sent[0] - sent[1]) / (planes[0] - planes[1])
    halos, transposes, sums = (comm.waits[kind] / RK3.stages for kind in ("halo", "transpose", "sum"))
    neighbours = comm.bytes["halo"] / RK3.stages / plane
    return Counts(halos, transposes, sums, neighbours, slope / (nx * nz), (sent[0] - slope * planes[0]) / (nx * nz))


def stage(shape: tuple[int, int, int], ranks: int, counts: Counts, machine: Machine) -> float:
    """Seconds a stage, nan where it is impossible: fewer planes or modes than ranks, or too little memory."""
    nx, ny, nz = shape
    planes = math.ceil(ny / ranks)
    points = nx * planes * nz
    most = ny if counts.sweeps else min(ny, 2 * nx // 3)
    if ranks > most or nz < 32 or points * PER_POINT > machine.memory:
        return math.nan
    ghosts = 1 + 0.5 / planes if counts.planes else 1.0  # three transforms of ten act on two more planes
    seconds = points * machine.point * ghosts + machine.fixed
    if ranks == 1:
        return seconds
    speed = machine.network if ranks > machine.per_node else machine.inside
    # one rank of a node talks to the next node, with all of its network
    halo = counts.planes * 3.556 * nx * nz / min(machine.network * machine.per_node, machine.inside * machine.per_node)
    sent = (counts.per_point * planes + counts.per_column) * nx * nz * (ranks - 1) / ranks / speed
    waits = (counts.halos + counts.transposes + counts.sums * math.log2(ranks)) * machine.latency
    steps = 2 * ranks * machine.step if counts.sweeps else 0.0
    return seconds + halo + sent + waits + counts.transposes * machine.peer * ranks + steps


def cell(seconds: float, ranks: int, points: int, machine: Machine) -> str:
    """Milliseconds and the parallel efficiency against the speed of one rank without fixed costs."""
    if math.isnan(seconds):
        return "-"
    return f"{1e3 * seconds:.3g} ({100 * points * machine.point / ranks / seconds:.0f} %)"


def table(machine: Machine, ranks: tuple[int, ...], grids: tuple[tuple[int, int, int], ...], weak: int) -> list[str]:
    """Rows of strong scaling on some grids, then weak scaling of a cube of slabs, for a channel and a box."""
    flows = {flow: count(flow) for flow in ("channel", "box")}
    names = ["x".join(map(str, grid)) for grid in grids]
    head = [f"{flow} {name}" for flow in flows for name in names] + [f"{flow}, weak" for flow in flows]
    lines = [f"| {machine.name} | " + " | ".join(head) + " |", "| --: |" + " --: |" * len(head)]
    for p in ranks:
        cells = [cell(stage(g, p, c, machine), p, math.prod(g), machine) for c in flows.values() for g in grids]
        side = round((weak * p) ** (1 / 3))
        nx, ny = max(side, 3 * p // 2), max(side, p)  # as flat as slabs ask for
        grown = nx, ny, round(weak * p / (nx * ny))
        cells += [cell(stage(grown, p, c, machine), p, math.prod(grown), machine) for c in flows.values()]
        lines.append(f"| {p} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    """Print the counts and the tables."""
    torch.set_grad_enabled(False)
    print("| a stage | halos | to all | sums | planes to neighbours | bytes to all: a point | a column |")
    print("| :-- |" + " --: |" * 6)
    for flow in ("channel", "box"):
        c = count(flow)
        waits = f"{c.halos:.3g} | {c.transposes:.3g} | {c.sums:.2g}"
        print(f"| {flow} | {waits} | {c.planes:.3g} | {c.per_point:.3g} | {c.per_column:.3g} |")
    cubes = ((512, 512, 512), (2048, 2048, 2048))
    print("", *table(CPU, (1, 8, 128, 256, 1024, 10240), cubes, WEAK_CPU), sep="\n")
    print("", *table(THREADS, (8, 16, 64, 128, 640), cubes, 16 * WEAK_CPU), sep="\n")
    for machine in (STAGED, DIRECT):
        print("", *table(machine, (1, 8, 64, 256, 1024), cubes, WEAK_GPU), sep="\n")


if __name__ == "__main__":
    main()
