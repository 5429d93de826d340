"""What a channel with a network in it settles to: the long run that an ensemble is judged by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from closures.coupling.frames import Frames
from closures.coupling.resample import network_grid
from closures.data.profiles import filtered_channel
from closures.data.windows import FlowSet, TrajectoryFiles
from closures.operators.domain import Domain, same
from solver.analysis.channel import ERRORS, ChannelProfiles, deviations, table_of
from solver.case.case import load_case
from solver.discretisation import fusion
from solver.discretisation.calculus import Operators
from solver.discretisation.staggered import y_slowest
from solver.discretisation.velocity import Velocity
from solver.errors import CaseError, Diverged
from solver.files.regrid import interpolated
from solver.flow import initial
from solver.flow.batch import Batch, refusal
from solver.flow.closure import Closure, State, SubgridTerm
from solver.flow.flow import Flow
from solver.flow.simulation import Simulation
from solver.flow.time_step import StepControl
from solver.grid.axis import Array, FiniteVolumeAxis
from solver.grid.grid import Grid
from solver.observers.health import Health
from solver.observers.statistics import Moments, Statistics
from solver.parallel import ranks
from solver.parallel.slabs import Slabs
from solver.run import build
from solver.run.machine import choose_fusion

TOGETHER = 10  # flows that are advanced as one; more gain little


@dataclass(frozen=True)
class Settled:
    """The end of a run: its velocity, and the means over x, z and time as ``solver.observers.statistics`` has them."""

    velocity: tuple[Array, ...]
    means: Array


def nothing(number: int) -> None:
    """The weights are what they are."""


class Watch:
    """The observers of one run, see `LongRun`."""

    def __init__(
        self, simulation: Simulation, moments: Moments, settle: float, average: float, every_steps: int
    ) -> None:
        self.statistics = Statistics(simulation.operators, settle, average, every_steps, moments)
        self.health = Health(simulation, every_steps, expect_turbulence=True)
        self.average, self.every_steps = average, every_steps

    def __call__(self, simulation: Simulation) -> bool:
        """Look at the flow after a step; whether it is lost."""
        if self.health(simulation):
            return True
        self.statistics(simulation)
        return False

    def settled(self, simulation: Simulation) -> Settled:
        """What the run has come to; raises CaseError if it was too short."""
        if not self.statistics.means.duration:
            raise CaseError(
                f"[ensemble] average = {self.average:g}: is less than {self.every_steps} steps: average longer"
            )
        found = tuple(y_slowest(c).numpy() for c in simulation.velocity.coefficients)
        return Settled(found, self.statistics.means.mean)


class _Member:
    """A closure whose weights are those of one member whenever it is asked."""

    def __init__(self, closure: Closure, take: Callable[[], None]) -> None:
        self.closure, self.take = closure, take
        self.name, self.reach = closure.name, closure.reach

    def init(self, operators: Operators) -> State:
        """That of the closure."""
        return self.closure.init(operators)

    def __call__(self, velocity: Velocity, t: float, state: State) -> tuple[SubgridTerm | None, State]:
        """That of the closure with these weights."""
        self.take()
        return self.closure(velocity, t, state)


class LongRun:
    """Runs of one channel with one closure, whose weights change from run to run; each process has its own.

    Parameters
    ----------
    closure : makes it for a grid and a viscosity.
    source, trajectories : filtered flows on the points of the case: those have the profiles that runs should have, and
        first frames.
    case, overrides : the case; its closure and its times do not count.
    every_steps : between two samples of the averages.
    like : runs of the same channel whose first frames, interpolated, are those of a set without fields.

    Raises
    ------
    CaseError : no channel, or other points than the data.
    """

    def __init__(
        self,
        closure: Callable[[Grid, float], Closure],
        source: FlowSet,
        trajectories: Sequence[int],
        case: str,
        overrides: tuple[str, ...],
        every_steps: int = 10,
        like: LongRun | None = None,
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
        self.size = 1 if refusal(flow) else TOGETHER
        self.moments = Moments(operators)
        self._take: Callable[[int], None] = nothing
        self._batches: dict[int, Batch] = {}
        self.source, self.every_steps, self.like = source, every_steps, like
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
        if not isinstance(self.source, TrajectoryFiles):
            assert self.like is not None
            frame = interpolated(
                self.like.first(number), self.like.simulation.operators.grid, self.simulation.operators
            )
            return tuple(c.numpy() for c in self.simulation.flow.solenoidal(frame))
        n_traj, n_steps = len(self.trajectories), self.source.shape[1]
        row = (number // n_traj * 7919) % n_steps  # far from those before
        values = self.source.read(self.trajectories[number % n_traj], slice(row, row + 1))[0]
        return tuple(c.numpy() for c in self.frames.start(torch.from_numpy(values).movedim(-1, 0)))

    @torch.no_grad()
    def __call__(self, velocity: tuple[Array, ...], settle: float, average: float) -> Settled | None:
        """Run on from a velocity; averages begin after `settle`. None if it is lost: blown up, laminar, refused."""
        watch, simulation = self._begin(self.simulation, velocity, settle, average), self.simulation
        while simulation.t < settle + average:
            try:
                simulation.step()
            except Diverged:
                return None
            if watch(simulation):
                return None
        return watch.settled(simulation)

    @torch.no_grad()
    def together(
        self,
        velocities: Sequence[tuple[Array, ...]],
        settle: float,
        average: float,
        take: Callable[[int], None],
    ) -> list[Settled | None]:
        """Runs from several velocities, advanced as one; one by one where `size` is 1.

        `take` is called with the number of a run before its closure is asked: it has weights of its own.
        """
        found: list[Settled | None] = [None] * len(velocities)
        if self.size == 1 or len(velocities) == 1:
            for number, velocity in enumerate(velocities):
                take(number)
                found[number] = self(velocity, settle, average)
            return found
        self._take, batch = take, self._batch(len(velocities))
        batch.lost.clear()
        pairs = zip(batch.simulations, velocities, strict=True)
        watches = dict(enumerate(self._begin(flow, velocity, settle, average) for flow, velocity in pairs))
        while watches:
            batch.step()
            for number, watch in list(watches.items()):
                simulation = batch.simulations[number]
                over = simulation.t >= settle + average
                if number in batch.lost or watch(simulation):
                    del watches[number]
                elif over:
                    found[number] = watches.pop(number).settled(simulation)
        return found

    def _batch(self, count: int) -> Batch:
        """So many flows, made once: their kernels are those of this number."""
        if count not in self._batches:
            flow, control = self.simulation.flow, self.simulation.control
            frame = control.frame[0]
            flows = [
                Flow(
                    flow.operators,
                    flow.nu,
                    None if flow.closure is None else _Member(flow.closure, partial(self._ask, number)),
                    flow.forcing,
                    flow.momentum,
                    flow.projection,
                    frame=frame,
                )
                for number in range(count)
            ]
            own = [StepControl(flow.operators, control.cfl, control.fixed, frame=frame) for _ in flows]
            state = self.simulation.state
            simulations = [Simulation(f, state, c) for f, c in zip(flows, own, strict=True)]
            self._batches[count] = Batch(simulations, alike=flow.closure is None)
        return self._batches[count]

    def _ask(self, number: int) -> None:
        self._take(number)

    def _begin(self, simulation: Simulation, velocity: tuple[Array, ...], settle: float, average: float) -> Watch:
        u, v, w = (y_slowest(torch.from_numpy(c)) for c in velocity)
        simulation.state = simulation.flow.start((u, v, w), settled=True)
        return Watch(simulation, self.moments, settle, average, self.every_steps)

    def deviations(self, means: Array) -> list[Array]:
        """Of profiles and friction coefficient from those of the data, see `solver.analysis.channel.deviations`."""
        return deviations(self.channel, self.reference, means, "bulk")

    def errors(self, means: Array) -> dict[str, float]:
        """As ``solver compare`` has them."""
        return {key: float(np.sqrt((row**2).sum())) for key, row in zip(ERRORS, self.deviations(means), strict=True)}
