"""``solver bench``: the parts of a step in milliseconds, against the transforms and products it cannot do without."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from solver.discretisation import fusion
from solver.discretisation.calculus import Operators
from solver.errors import CaseError
from solver.files.folder import processor
from solver.flow.closure import Closure
from solver.flow.flow import Flow
from solver.flow.forcing import Forcing, MassFlux
from solver.flow.initial import taylor_green, wall_turbulence
from solver.flow.runge_kutta import RK3
from solver.flow.simulation import Simulation
from solver.flow.time_step import StepControl
from solver.grid.axis import Array, FiniteVolumeAxis, FourierAxis, NoSlip, stretched_faces
from solver.grid.grid import Grid
from solver.parallel.ranks import choose_device
from solver.parallel.slabs import Slabs
from solver.run.limit import MinimalStage, seconds, ten_transforms

BLOCK = 3  # steps in a row: the first finds its fields in memory; they hold one evaluation of a dynamic coefficient


def memory_mib() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def flow_simulation(
    shape: tuple[int, int, int],
    flow: str,
    device: str,
    dtype: torch.dtype,
    make_closure: Callable[[Grid, float], Closure | None],
) -> Simulation:
    """The flow that is timed: a channel or a Taylor-Green box whose *points* are `shape` (2/3 rule).

    Raises
    ------
    CaseError : no such flow, device, or too many ranks.
    """
    nx, ny, nz = shape
    if flow == "channel":
        y: FiniteVolumeAxis | FourierAxis = FiniteVolumeAxis(stretched_faces(ny, 0.0, 2.0, 1.7), NoSlip(), NoSlip())
        grid = Grid(FourierAxis(nx, 4 * np.pi, "2/3"), y, FourierAxis(nz, 4 * np.pi / 3, "2/3"))
    elif flow == "box":
        grid = Grid(*(FourierAxis(n, 2 * np.pi, "2/3") for n in shape))
    else:
        raise CaseError(f"--flow {flow}: should be 'channel' or 'box'")
    slabs = Slabs(ny, grid.coefficient_shape[0], grid.y.periodic)
    operators = Operators(grid, slabs, choose_device(device), dtype)
    nu = 1 / 2800 if flow == "channel" else 1 / 1600
    velocity = wall_turbulence(operators, 1.0, nu, 1.0, 731) if flow == "channel" else taylor_green(operators, 1.0)
    forcing = MassFlux(operators, 1.0) if flow == "channel" else Forcing()
    motion = Flow(operators, nu, make_closure(grid, nu), forcing)
    return Simulation(motion, motion.start(velocity), StepControl(operators, 1.0))


def measure(simulations: Sequence[Simulation], rounds: int = 7, warm_up: int = 3) -> list[dict[str, Any]]:
    """Time `BLOCK` steps of each flow and of their minimal stage in turn, so that ratios hold on a busy machine.

    Milliseconds a step by part are means; `seconds_per_step` and the ratios are medians over the rounds:
    `fft_limit_ratio`, `ten_transforms_ratio` against `limit.ten_transforms`, `relative_cost` against the first flow.
    """
    minimal = MinimalStage(simulations[0].operators)
    for simulation in simulations:
        for _ in range(warm_up):
            simulation.step()
        simulation.timers.reset()
    minimal()

    def block(step: Callable[[], object], times: int) -> float:
        return seconds(lambda: [step() for _ in range(times)]) / BLOCK

    stages = BLOCK * RK3.stages

    def once() -> list[float]:
        ten = RK3.stages * ten_transforms(minimal.transforms, 1)
        return [ten, block(minimal, stages), *(block(s.step, BLOCK) for s in simulations)]

    times = np.array([once() for _ in range(rounds)])
    return [_record(s, times[:, :3], times[:, k]) for k, s in enumerate(simulations, start=2)]


def _record(simulation: Simulation, beside: Array, own: Array) -> dict[str, Any]:
    """What one flow's rounds say; `beside` are in each round ten transforms a stage, the limit, the first flow."""
    ten, minimal, first = beside.T
    op, stages = simulation.operators, RK3.stages
    duration = float(np.median(own))
    return {
        "grid": list(op.grid.shape),
        "closure": simulation.closure.name if simulation.closure else "none",
        "dtype": str(op.dtype).removeprefix("torch."),
        "device": str(op.device),
        "ranks": op.decomposition.size,
        "fused": fusion.is_enabled(),
        "seconds_per_step": duration,
        "ns_per_point_per_stage": duration / stages / int(np.prod(op.grid.shape)) * 1e9,
        "fft_limit_ratio": float(np.median(own / minimal)),
        "ten_transforms_ratio": float(np.median(own / ten)),
        "relative_cost": float(np.median(own / first)),
        "milliseconds": {name: 1e3 * s / (BLOCK * len(own)) for name, s in sorted(simulation.timers.seconds.items())},
        "memory_mib": memory_mib(),
        "machine": f"{processor()}, {os.cpu_count()} cores",
    }
