"""What a channel with a network in it settles to: the long run that an ensemble is judged by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from closures.coupling.frames import Frames
from closures.coupling.resample import network_grid
from closures.data.profiles import filtered_channel
from closures.data.windows import TrajectoryFiles
from closures.operators.domain import Domain, same
from solver.analysis.channel import ERRORS, ChannelProfiles, deviations, table_of
from solver.case.case import load_case
from solver.discretisation import fusion
from solver.discretisation.calculus import Operators
from solver.discretisation.staggered import y_slowest
from solver.errors import CaseError, Diverged
from solver.flow import initial
from solver.flow.closure import Closure
from solver.flow.flow import Flow
from solver.flow.simulation import Simulation
from solver.flow.time_step import StepControl
from solver.grid.axis import Array, FiniteVolumeAxis
from solver.grid.grid import Grid
from solver.observers.health import Health
from solver.observers.statistics import Statistics
from solver.parallel import ranks
from solver.parallel.slabs import Slabs
from solver.run import build
from solver.run.machine import choose_fusion


@dataclass(frozen=True)
class Settled:
    """The end of a run: its velocity, and the means over x, z and time as ``solver.observers.statistics`` has them."""

    velocity: tuple[Array, ...]
    means: Array


class LongRun:
    """Runs of one channel with one closure, whose weights change from run to run; each process has its own.

    Parameters
    ----------
    closure : makes it for a grid and a viscosity.
    source, trajectories : filtered flows on the points of the case: those have first frames, and the profiles that runs
        should have.
    case, overrides : the case; its closure and its times do not count.
    every_steps : between two samples of the averages.

    Raises
    ------
    CaseError : no channel, or other points than the data.
    """

    def __init__(
        self,
        closure: Callable[[Grid, float], Closure],
        source: TrajectoryFiles,
        trajectories: Sequence[int],
        case: str,
        overrides: tuple[str, ...],
        every_steps: int = 10,
    ) -> None:
        described, _ = load_case(Path(case), (*overrides, "closure={name='none'}", "run.device=cpu"))
        grid = described.build_grid()
        if not (grid.is_channel and isinstance(grid.y, FiniteVolumeAxis)):
            raise CaseError(f"[ensemble] case = '{case}': its statistics are no profiles: use a channel")
        if not same(source.domain.describe(), Domain.of(network_grid(grid)).describe()):
            points = " x ".join(map(str, network_grid(grid).shape))
            raise CaseError(
                f"[ensemble] case = '{case}': its modes and cells are {points} points, the data have others"
            )
        fusion.enable(choose_fusion(described.run.fuse, int(np.prod(grid.shape)), None))
        slabs = Slabs(grid.shape[1], grid.coefficient_shape[0], grid.y.periodic, ranks.alone())
        operators = Operators(grid, slabs, torch.device("cpu"), getattr(torch, described.run.dtype))
        model = closure(grid, described.flow.nu)
        time = described.time
        control = StepControl(operators, time.cfl, time.dt, frame=time.frame)
        forcing, rest = build.make_forcing(described, operators), initial.rest(operators)
        flow = Flow(operators, described.flow.nu, model, forcing, frame=time.frame)
        self.simulation = Simulation(flow, flow.start(rest), control)
        self.source, self.every_steps = source, every_steps
        self.frames = Frames(self.simulation)
        data, means = filtered_channel(source.path)
        self.trajectories = list(trajectories)
        self.reference = table_of(data, means[self.trajectories].mean(axis=(0, 1)))
        self.channel = ChannelProfiles(grid.y, described.flow.nu)  # its friction is that of the coarse grid

    @property
    def target_rows(self) -> tuple[int, ...]:
        """How many numbers each of `deviations` has."""
        half = len(self.channel.distance)
        return (*[half] * 5, 1)

    def first(self, number: int) -> tuple[Array, ...]:
        """A stored frame as coefficients: another trajectory, and later another frame, for every number."""
        n_traj, n_steps = len(self.trajectories), self.source.shape[1]
        frame = (number // n_traj * 7919) % n_steps  # far from those before
        values = self.source.read(self.trajectories[number % n_traj], slice(frame, frame + 1))[0]
        return tuple(c.numpy() for c in self.frames.start(torch.from_numpy(values).movedim(-1, 0)))

    @torch.no_grad()
    def __call__(self, velocity: tuple[Array, ...], settle: float, average: float) -> Settled | None:
        """Run on from a velocity; averages begin after `settle`. None if it is lost: blown up, laminar, refused."""
        simulation = self.simulation
        u, v, w = (y_slowest(torch.from_numpy(c)) for c in velocity)
        simulation.state = simulation.flow.start((u, v, w), settled=True)
        statistics = Statistics(simulation.operators, settle, average, self.every_steps)
        health = Health(simulation, self.every_steps, expect_turbulence=True)
        while simulation.t < settle + average:
            try:
                simulation.step()
            except Diverged:
                return None
            if health(simulation):
                return None
            statistics(simulation)
        if not statistics.means.duration:
            raise CaseError(f"[ensemble] average = {average:g}: is less than {self.every_steps} steps: average longer")
        found = tuple(c.numpy() for c in simulation.velocity.coefficients)
        return Settled(found, statistics.means.mean)

    def deviations(self, means: Array) -> list[Array]:
        """Of profiles and friction coefficient from those of the data, see `solver.analysis.channel.deviations`."""
        return deviations(self.channel, self.reference, means, "bulk")

    def errors(self, means: Array) -> dict[str, float]:
        """As ``solver compare`` has them."""
        return {key: float(np.sqrt((row**2).sum())) for key, row in zip(ERRORS, self.deviations(means), strict=True)}
