"""One flow after another, sample by sample; what is carried from sample to sample is all that there is to remember."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from closures.coupling.frames import Frames
from closures.training.online.flows import TEACHING, Flows
from closures.training.online.student import Student
from solver.discretisation.staggered import y_slowest
from solver.errors import Diverged
from solver.flow.simulation import Simulation
from solver.observers.series import fluctuation_energy, wall_friction_velocity

PATIENCE = 5  # flows lost in a row, after which the case is to blame
VELOCITY = ("u", "v", "w")


@dataclass(frozen=True)
class Place:
    """Where a lane of flows is.

    Parameters
    ----------
    flow : its number.
    attempt : how often it was begun anew.
    index : samples that it has given.
    count : samples that the lane has given.
    lost, refused : flows that were dropped, and labels that were refused, in this lane.
    t, step : time of the flow, and steps of its teacher since it began.
    """

    flow: int
    attempt: int = 0
    index: int = 0
    count: int = 0
    lost: int = 0
    refused: int = 0
    t: float = 0.0
    step: int = 0


@dataclass(frozen=True)
class Carried:
    """All that a lane needs to go on: its place, and the fields of its flow; none where the next begins from noise."""

    place: Place
    fields: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Sample:
    """A window of frames, and what is known of it.

    Parameters
    ----------
    lane : which it comes from.
    frames : (steps + 1, 3, nx, ny, nz), float32.
    after : where that lane is now.
    version : step of the optimiser that made the weights which led the flow there; -1 where none did.
    alone : intervals that the network had gone on alone.
    energy : of the fluctuations in the first frame, velocity^2.
    friction : friction velocity there; nan but in a channel.
    nu : viscosity of the flow.
    """

    lane: int
    frames: np.ndarray
    after: Carried
    version: int
    alone: int
    energy: float
    friction: float
    nu: float


class Lane:
    """One flow after another: numbers `lane`, ``lane + flows``, ...; each call makes a sample and moves it on.

    Parameters
    ----------
    flows : all there are.
    lane : which lane.
    steps : frames of a sample after the first.
    carried : where it goes on; None: it begins.
    """

    def __init__(self, flows: Flows, lane: int, steps: int, carried: Carried | None = None) -> None:
        self.flows, self.lane, self.steps = flows, lane, steps
        self.carried = carried or Carried(Place(lane), {})
        self._simulation: tuple[tuple[int, int], Simulation, Frames] | None = None

    @torch.no_grad()
    def __call__(self, student: Student | None = None) -> Sample:
        """The next sample.

        Raises
        ------
        Diverged : flow after flow was lost.
        """
        for _ in range(PATIENCE):
            try:
                return self._sample(student)
            except Diverged as problem:
                place, reason = self.carried.place, problem
                anew = replace(place, attempt=place.attempt + 1, lost=place.lost + 1, t=0.0, step=0)
                self.carried = Carried(anew, {})
        raise Diverged(
            f"[online] flow {self.carried.place.flow} was lost {PATIENCE} times in a row, at last since {reason}: "
            "raise steps, or look at ranges and at the closure"
        )

    def _sample(self, student: Student | None) -> Sample:
        simulation, frames = self._entered()
        place, refused, alone = self.carried.place, 0, 0
        if student is not None:
            alone = student.alone(np.random.default_rng([place.flow, place.attempt, place.index]))
        if student is not None and alone and not student.lead(simulation, self.flows.table, alone):
            simulation, frames = self._entered()
            refused, alone = 1, 0
        velocity = simulation.velocity.coefficients
        energy = float(fluctuation_energy(simulation.operators, velocity))
        channel = simulation.operators.grid.is_channel
        friction = wall_friction_velocity(simulation) if channel else math.nan
        window = self.flows.window(simulation, frames, self.steps).to("cpu", torch.float32).numpy()
        self.carried = self._after(simulation, refused)
        version = student.version if student is not None and alone else -1
        return Sample(self.lane, window, self.carried, version, alone, energy, friction, simulation.nu)

    def _entered(self) -> tuple[Simulation, Frames]:
        """The flow of this lane where it was left, the same whether this process had left it or another."""
        place = self.carried.place
        if self._simulation is None or self._simulation[0] != (place.flow, place.attempt):
            begun = self.flows.begin(TEACHING, place.flow, place.attempt)
            self._simulation = (place.flow, place.attempt), begun, Frames(begun)
        _, simulation, frames = self._simulation
        if not self.carried.fields:
            self.flows.spin_up(simulation, self.flows.table.spin_up)
            self.carried = self._left(simulation, place)
        put(simulation, self.carried)
        return simulation, frames

    def _after(self, simulation: Simulation, refused: int) -> Carried:
        """Where the lane is after a sample: in the same flow, or before the beginning of the next."""
        place = self.carried.place
        place = replace(place, count=place.count + 1, refused=place.refused + refused)
        if place.index + 1 == self.flows.table.length:
            table = self.flows.table
            return Carried(replace(place, flow=place.flow + table.flows, attempt=0, index=0, t=0.0, step=0), {})
        return self._left(simulation, replace(place, index=place.index + 1))

    def _left(self, simulation: Simulation, place: Place) -> Carried:
        return Carried(replace(place, t=float(simulation.t), step=simulation.step_count), fields_of(simulation))


def fields_of(simulation: Simulation) -> dict[str, np.ndarray]:
    """What a flow is carried on by: coefficients of the velocity, memories of closure and wall model."""
    state = simulation.state
    found: dict[str, Tensor] = dict(zip(VELOCITY, state.velocity.coefficients, strict=True))
    found |= {f"closure/{name}": value for name, value in state.closure.items()}
    found |= {f"walls/{name}": value for name, value in state.walls.items()}
    return {name: value.detach().cpu().contiguous().clone().numpy() for name, value in found.items()}


def put(simulation: Simulation, carried: Carried) -> None:
    """Bring a flow to where it was left."""
    flow, device = simulation.flow, simulation.operators.device
    own = {name: torch.from_numpy(value.copy()) for name, value in carried.fields.items()}
    u, v, w = (y_slowest(own[name].to(device)) for name in VELOCITY)
    begun = flow.start((u, v, w), settled=True)
    memory: dict[str, dict[str, Tensor]] = {"closure": {}, "walls": {}}
    for key, value in own.items():
        kind, _, name = key.partition("/")
        if kind in memory:
            begin = begun.closure if kind == "closure" else begun.walls
            memory[kind][name] = value.to(begin[name].device if name in begin else device)
    place = carried.place
    simulation.state = replace(begun, t=place.t, step=place.step, closure=memory["closure"], walls=memory["walls"])
