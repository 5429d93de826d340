"""Steps as graphs of a GPU: what a step queues is recorded once and then queued by two calls.

The first graph chooses dt from a velocity, the second has the stages: so the host reads dt while the device is in the
midst of them. What differs from step to step lies in tensors that stay where they are; a step with other shapes, or
other branches of the closure, has graphs of its own. Nothing in them may ask the host, so there they have dt and t on
the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from solver.errors import CaseError
from solver.flow.closure import State as Memory
from solver.flow.flow import Flow
from solver.flow.projection import Pressure
from solver.flow.runge_kutta import RK3, TimeStep, runge_kutta
from solver.flow.state import State
from solver.flow.time_step import StepControl
from solver.parallel.late import Reading

WARM_UP = 3  # calls that make plans, kernels and constants
MOST_GRAPHS = 16  # of one flow: each keeps what it gives
Tensors = dict[str, Tensor]


class Recorder(Protocol):
    """Records what functions queue."""

    def __call__(self, parts: Sequence[Callable[[], None]]) -> list[Callable[[], None]]:
        """What queues the same again, for each part, in their order; the parts have been called by then."""
        ...


class CudaRecorder:
    """CUDA graphs, all in one pool of memory: they are replayed one after another."""

    def __init__(self) -> None:
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, parts: Sequence[Callable[[], None]]) -> list[Callable[[], None]]:
        """See `Recorder`."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for part in [*parts] * WARM_UP:
                part()
        torch.cuda.current_stream().wait_stream(side)
        replays: list[Callable[[], None]] = []
        for part in parts:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self.pool):
                part()
            replays.append(graph.replay)
        return replays


RECORDERS: dict[str, Callable[[], Recorder]] = {"cuda": CudaRecorder}


def choose_recorder(wanted: str, flow: Flow) -> Recorder | None:
    """What records the steps of a flow; None: they are queued kernel by kernel.

    Parameters
    ----------
    wanted : ``on``, ``off``, or ``auto``: where it can be.

    Raises
    ------
    CaseError : ``on``, but it cannot be; the line says why.
    """
    if wanted == "off":
        return None
    reason = obstacle(flow)
    if reason and wanted == "on":
        raise CaseError(f"[run] graph = 'on': {reason}: use 'auto' or 'off'")
    return None if reason else RECORDERS[flow.operators.device.type]()


def obstacle(flow: Flow) -> str:
    """Why the steps of a flow cannot be graphs; "" if they can."""
    if flow.operators.device.type not in RECORDERS:
        return f"steps on '{flow.operators.device}' are no graphs, only those on a GPU (CUDA) are"
    if flow.operators.decomposition.size > 1:
        return "several ranks exchange planes through the host within a step"
    if not flow.projection.is_exact:
        return "an iterative pressure solver reads its residual on the host"
    asked = {"closure": flow.closure, "wall model": flow.walls.model if flow.walls else None}
    for kind, model in asked.items():
        if model is not None and not getattr(model, "graph_cycle", 0):
            return f"the {kind} '{model.name}' may ask the host (it declares no `graph_cycle`)"
    count = math.lcm(cycle_of(flow), RK3.stages) // RK3.stages
    if count > MOST_GRAPHS:
        return (
            f"the closure has {count} different steps, and {MOST_GRAPHS} graphs are the most: choose a smaller 'every'"
        )
    return ""


def cycle_of(flow: Flow) -> int:
    """Calls after which the closure does the same again."""
    return int(getattr(flow.closure, "graph_cycle", 1))


@dataclass(frozen=True)
class Recorded:
    """Graphs of a step: what replays them, and where their results lie.

    Parameters
    ----------
    choose, advance : queue the choice of dt, and the stages.
    found : what the control has found.
    after : the state, with t and dt on the device.
    counts : what the step adds to each counter of the closure.
    """

    choose: Callable[[], None]
    advance: Callable[[], None]
    found: Tensor
    after: State
    counts: dict[str, int]


class GraphStep:
    """`SolverStep` by graphs.

    States that it gives are copies: they stay as they are while the graphs go on. Steps that record gradients are
    plain.

    Parameters
    ----------
    flow, control : as of `SolverStep`.
    recorder : records.
    plain : the same step, kernel by kernel.
    """

    def __init__(self, flow: Flow, control: StepControl, recorder: Recorder, plain: Callable[..., State]) -> None:
        self.flow, self.control, self.recorder, self.plain = flow, control, recorder, plain
        self.inside = copy(control)  # whose dt stays on the device
        self.inside.reads = False
        self.recorded: dict[Hashable, Recorded] = {}
        self._inputs: dict[Hashable, Tensors] = {}

    def __call__(self, state: State, longest: float = math.inf, wait: float = math.inf) -> State:
        """The next state, see `Stepper`.

        Raises
        ------
        Diverged : the velocity or the eddy viscosity is not finite.
        """
        if torch.is_grad_enabled():
            return self.plain(state, longest, wait)
        given, counters = _fields(state), {name: int(f) for name, f in state.closure.items() if _is_counter(f)}
        shapes = tuple((name, f.shape, f.dtype) for name, f in given.items())
        phase = tuple((name, count % cycle_of(self.flow)) for name, count in counters.items())
        with self.flow.timers("graph"):
            inputs = self._filled(shapes, given, {"t": float(state.t), "longest": longest, "wait": wait})
            key = shapes, phase, math.isinf(wait)
            if key not in self.recorded:
                self.recorded[key] = self._record(inputs, counters, math.isinf(wait))
            step = self.recorded[key]
            step.choose()
            reading = Reading(step.found)
            step.advance()
            after = _copied(step.after)
            dt = self.control.read(*reading())
        closure = after.closure | {name: torch.tensor(n + step.counts[name]) for name, n in counters.items()}
        assert after.pressure is not None
        return State(
            self.flow.velocity(after.velocity.coefficients),
            state.t + dt,
            state.step + 1,
            dt,
            after.scalars,
            closure,
            after.walls,
            Pressure(after.pressure.potential, RK3.spans[-1] * dt),
            after.drive,
        )

    def _filled(self, shapes: Hashable, given: Tensors, numbers: dict[str, float]) -> Tensors:
        """The tensors that graphs of these shapes read, with what this step begins with."""
        if shapes not in self._inputs:
            device = self.flow.operators.device
            places = {name: torch.zeros((), dtype=torch.float64, device=device) for name in numbers}
            self._inputs[shapes] = {name: f.clone() for name, f in given.items()} | places
        inputs = self._inputs[shapes]
        for name, f in given.items():
            inputs[name].copy_(f)
        for name, number in numbers.items():
            inputs[name].fill_(number)
        return inputs

    def _record(self, inputs: Tensors, counters: dict[str, int], endless: bool) -> Recorded:
        """Graphs of a step that begins with these inputs."""
        flow = self.flow
        begun: list[tuple[State, TimeStep]] = []
        ended: list[State] = []

        def choose() -> None:
            state = _state(flow, inputs, counters)
            term, nu, force = flow.present_term(state), flow.diffusivity, flow.forcing.body_force
            wait = math.inf if endless else inputs["wait"]
            begun[:] = [(state, self.inside(state.velocity, term, nu, force, inputs["longest"], wait))]

        def advance() -> None:
            ended[:] = [runge_kutta(flow, *begun[0], RK3)]

        paused, flow.timers.paused = flow.timers.paused, True
        try:
            replay_choice, replay_stages = self.recorder([choose, advance])
        finally:
            flow.timers.paused = paused
        found, counts = self.inside.found, {name: int(ended[0].closure[name]) - n for name, n in counters.items()}
        return Recorded(replay_choice, replay_stages, found, ended[0], counts)


def _is_counter(f: Tensor) -> bool:
    """Whether an entry of a closure's memory is a number of the host."""
    return f.ndim == 0 and not f.is_floating_point()


def _fields(state: State) -> Tensors:
    """What a step reads of a state, by name."""
    found = {f"velocity {i}": f for i, f in enumerate(state.velocity.coefficients)}
    found |= {f"scalars {name}": f for name, f in state.scalars.items()}
    found |= {f"closure {name}": f for name, f in state.closure.items() if not _is_counter(f)}
    return found | {f"walls {name}": f for name, f in state.walls.items()}


def _state(flow: Flow, fields: Tensors, counters: dict[str, int]) -> State:
    """The state of these fields: the way back of `_fields`."""

    def named(table: str) -> Memory:
        return {name.removeprefix(table): f for name, f in fields.items() if name.startswith(table)}

    u, v, w = named("velocity ").values()
    closure = named("closure ") | {name: torch.tensor(n) for name, n in counters.items()}
    return State(flow.velocity((u, v, w)), fields["t"], 0, 0.0, named("scalars "), closure, named("walls "))


def _copied(state: State) -> State:
    """What a graph gave, in memory that it does not write to again."""

    def copied(memory: Memory) -> Memory:
        return {name: f.clone() for name, f in memory.items()}

    u, v, w = (f.clone() for f in state.velocity.coefficients)
    assert state.pressure is not None
    pressure = Pressure(state.pressure.potential.clone(), state.pressure.span)
    drive = state.drive.clone() if isinstance(state.drive, Tensor) else state.drive
    velocity = type(state.velocity)(state.velocity.strain, (u, v, w))
    return State(
        velocity, 0.0, 0, 0.0, copied(state.scalars), copied(state.closure), copied(state.walls), pressure, drive
    )
