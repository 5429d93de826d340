"""``solver bench``: the parts of a step in milliseconds, against the transforms and products it cannot do without."""

from __future__ import annotations

import os
import resource
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from solver import fusion
from solver.axis import FiniteVolumeAxis, FourierAxis, NoSlip, stretched_faces
from solver.engine import choose_engine
from solver.errors import CaseError
from solver.forcing import MassFlux, NoForcing
from solver.grid import Grid
from solver.initial import taylor_green, wall_turbulence
from solver.operators import Operators
from solver.parallel import Decomposition, choose_device
from solver.pressure.direct import apply_matrix
from solver.rundir import processor
from solver.simulation import Simulation
from solver.stepping import StepControl


def median_seconds(function: Callable[[], object], repeats: int = 7) -> float:
    """Median wall-clock time of a call, after one call to warm up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def fft_limit(operators: Operators) -> float:
    """Seconds a stage of the minimal transforms and matrix products takes here, on this rank's share of the grid.

    Fourier x FV x Fourier: nine two-dimensional real transforms and the two products of the pressure solve;
    Fourier^3: eight three-dimensional ones. Plain complete transforms of the same engine, without truncation.
    """
    grid, (nx, ny, nz) = operators.grid, operators.local_shape
    if not grid.x.is_fourier:
        return float("nan")
    f = torch.randn(ny, nx, nz, dtype=operators.dtype, device=operators.device)
    engine = choose_engine(f)
    dims = [d for d, axis in ((0, grid.y), (1, grid.x), (2, grid.z)) if axis.is_fourier]
    spectrum = engine.rfftn(f, dims)

    def forward() -> torch.Tensor:
        return engine.rfftn(f, dims)

    def inverse() -> torch.Tensor:
        return engine.irfftn(spectrum, f.shape[dims[-1]], dims)

    out_and_back = (3, 5) if grid.y.is_fourier else (3, 6)
    total = out_and_back[0] * median_seconds(inverse) + out_and_back[1] * median_seconds(forward)
    if isinstance(grid.y, FiniteVolumeAxis):
        matrix = torch.randn(grid.y.n, grid.y.n, dtype=operators.dtype, device=operators.device)
        cx, cy, cz = grid.coefficient_shape
        field = torch.randn(
            2, cy, -(-cx // operators.decomposition.size), cz, dtype=operators.dtype, device=operators.device
        )
        total += 2 * median_seconds(lambda: apply_matrix(matrix, field.transpose(1, 2), 1))
    return total


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
    return Simulation(operators, velocity, nu, make_closure(grid, nu), forcing, StepControl(operators, 1.0))


def measure(simulation: Simulation, steps: int = 15, warm_up: int = 3) -> dict[str, object]:
    """Time `steps` steps; milliseconds a step by part, and the ratios of the design."""
    for _ in range(warm_up):
        simulation.step()
    simulation.timers.reset()
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        simulation.step()
        times.append(time.perf_counter() - start)
    op, stages = simulation.operators, simulation.scheme.stages
    limit = fft_limit(op)
    seconds = statistics.median(times)
    points = int(np.prod(op.grid.shape))
    return {
        "grid": list(op.grid.shape),
        "closure": simulation.closure.name if simulation.closure else "none",
        "dtype": str(op.dtype).removeprefix("torch."),
        "device": str(op.device),
        "ranks": op.decomposition.size,
        "fused": fusion.is_enabled(),
        "seconds_per_step": seconds,
        "ns_per_point_per_stage": seconds / stages / points * 1e9,
        "fft_limit_ratio": seconds / stages / limit,
        "milliseconds": {name: 1e3 * s / steps for name, s in sorted(simulation.timers.seconds.items())},
        "memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "machine": f"{processor()}, {os.cpu_count()} cores",
    }
