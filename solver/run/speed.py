"""``solver bench``: the parts of a step in milliseconds, against the transforms and products it cannot do without."""

from __future__ import annotations

import os
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from solver.discretisation import fusion
from solver.discretisation.calculus import Operators
from solver.discretisation.fft import choose_engine
from solver.errors import CaseError
from solver.files.folder import processor
from solver.flow.flow import Flow
from solver.flow.forcing import MassFlux, NoForcing
from solver.flow.initial import taylor_green, wall_turbulence
from solver.flow.runge_kutta import RK3
from solver.flow.simulation import Simulation
from solver.flow.time_step import StepControl
from solver.grid.axis import FiniteVolumeAxis, FourierAxis, NoSlip, stretched_faces
from solver.grid.grid import Grid
from solver.parallel.ranks import choose_device
from solver.parallel.slabs import Decomposition
from solver.pressure.direct import apply_matrix

BLOCK = 3  # steps in a row: the first finds its fields in memory; they hold one evaluation of a dynamic coefficient


def seconds(function: Callable[[], object]) -> float:
    """Wall-clock time of a call, work on a device included."""
    start = time.perf_counter()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def memory_mib() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class MinimalStage:
    """The transforms and matrix products that a stage cannot do without, on as many fields, on this rank's share.

    Fourier x FV x Fourier: three inverse and six forward two-dimensional real transforms and the two products of the
    pressure solve; Fourier^3: three inverse and five forward three-dimensional ones. Plain complete transforms of the
    same engine, without truncation.

    Raises
    ------
    CaseError : no axis is Fourier.
    """

    def __init__(self, operators: Operators) -> None:
        grid, (nx, ny, nz) = operators.grid, operators.local_shape
        if not grid.x.is_fourier:
            raise CaseError("a grid without Fourier axes has no transforms to compare a step with")

        def random(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, dtype=operators.dtype, device=operators.device)

        self.fields = [random(ny, nx, nz) for _ in range(5 if grid.y.is_fourier else 6)]
        self.engine = choose_engine(self.fields[0])
        self.dims = [d for d, axis in ((0, grid.y), (1, grid.x), (2, grid.z)) if axis.is_fourier]
        self.last = self.fields[0].shape[self.dims[-1]]
        self.spectra = [self.engine.rfftn(f, self.dims) for f in self.fields[:3]]
        self.matrix: torch.Tensor | None = None
        if isinstance(grid.y, FiniteVolumeAxis):
            cx, cy, cz = grid.coefficient_shape
            self.matrix = random(grid.y.n, grid.y.n)
            self.pressure = random(2, cy, -(-cx // operators.decomposition.size), cz).transpose(1, 2)

    def __call__(self) -> None:
        """The transforms of a stage, once."""
        for spectrum in self.spectra:
            self.engine.irfftn(spectrum, self.last, self.dims)
        for field in self.fields:
            self.engine.rfftn(field, self.dims)
        if self.matrix is not None:
            apply_matrix(self.matrix, apply_matrix(self.matrix, self.pressure, 1), 1)


def fft_limit(operators: Operators, repeats: int = 7) -> float:
    """Median seconds of a `MinimalStage`; nan for a grid without Fourier axes."""
    if not operators.grid.x.is_fourier:
        return float("nan")
    stage = MinimalStage(operators)
    stage()
    return statistics.median(seconds(stage) for _ in range(repeats))


def flow_simulation(
    shape: tuple[int, int, int], flow: str, device: str, dtype: torch.dtype, make_closure: Callable
) -> Simulation:
    """The flow that is timed: a channel or a Taylor-Green box whose *points* are `shape` (2/3 rule)."""
    nx, ny, nz = shape
    if flow == "channel":
        y: FiniteVolumeAxis | FourierAxis = FiniteVolumeAxis(stretched_faces(ny, 0.0, 2.0, 1.7), NoSlip(), NoSlip())
        grid = Grid(FourierAxis(nx, 4 * np.pi, "2/3"), y, FourierAxis(nz, 4 * np.pi / 3, "2/3"))
    elif flow == "box":
        grid = Grid(*(FourierAxis(n, 2 * np.pi, "2/3") for n in shape))
    else:
        raise CaseError(f"--flow {flow}: should be 'channel' or 'box'")
    slabs = Decomposition(ny, grid.coefficient_shape[0], grid.y.periodic)
    operators = Operators(grid, slabs, choose_device(device), dtype)
    nu = 1 / 2800 if flow == "channel" else 1 / 1600
    velocity = wall_turbulence(operators, 1.0, nu, 1.0, 731) if flow == "channel" else taylor_green(operators, 1.0)
    forcing = MassFlux(operators, 1.0) if flow == "channel" else NoForcing()
    motion = Flow(operators, nu, make_closure(grid, nu), forcing)
    return Simulation(motion, motion.start(velocity), StepControl(operators, 1.0))


def measure(simulations: Sequence[Simulation], rounds: int = 7, warm_up: int = 3) -> list[dict[str, Any]]:
    """Time `BLOCK` steps of each flow and of their minimal stage in turn, so that ratios hold on a busy machine.

    Milliseconds a step by part are means; `seconds_per_step` and the ratios (`fft_limit_ratio`, and `relative_cost`
    against the first flow) are medians over the rounds.
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
    times = np.array([[block(minimal, stages), *(block(s.step, BLOCK) for s in simulations)] for _ in range(rounds)])
    return [_record(s, times[:, 0], times[:, 1], times[:, k]) for k, s in enumerate(simulations, start=1)]


def _record(simulation: Simulation, minimal: NDArray, first: NDArray, own: NDArray) -> dict[str, Any]:
    """What one flow's rounds say."""
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
        "relative_cost": float(np.median(own / first)),
        "milliseconds": {name: 1e3 * s / (BLOCK * len(own)) for name, s in sorted(simulation.timers.seconds.items())},
        "memory_mib": memory_mib(),
        "machine": f"{processor()}, {os.cpu_count()} cores",
    }
