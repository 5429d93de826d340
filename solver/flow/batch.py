"""Several flows of one kind that are advanced as one.

On the grids on which closures are compared and trained half of a step is calls. The fields of a batch have one
dimension more, the flows (-4), so that a call does the work of all; what is one number of a flow (time, length of the
step, drive, bulk velocity) is one for each of them, and means over planes never mix two. The equations are `Flow`'s.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from solver.discretisation.calculus import Components, Operators
from solver.discretisation.staggered import together
from solver.errors import CaseError, Diverged
from solver.flow.asked import InTurn, Jointly
from solver.flow.closure import Corrector, Surrogate
from solver.flow.companions import SolverStep
from solver.flow.flow import Flow
from solver.flow.number import Number
from solver.flow.projection import Pressure
from solver.flow.simulation import Simulation
from solver.flow.state import State
from solver.flow.time_step import StepControl


def refusal(flow: Flow) -> str:
    """Why flows like this one cannot be advanced as one, in words; empty if they can."""
    reasons = {
        "axes other than Fourier, finite volumes, Fourier": [a.is_fourier for a in flow.operators.grid.axes]
        != [True, False, True],
        "solids, or an iterative pressure": not flow.projection.is_exact or flow.projection.walls is not None,
        "a wall model": flow.walls is not None,
        "implicit diffusion": flow.implicit is not None,
        "scalars": bool(flow.scalars.transports),
        "a closure that acts between steps": isinstance(flow.closure, Corrector | Surrogate),
    }
    return ", ".join(reason for reason, holds in reasons.items() if holds)


def _kind(simulation: Simulation) -> Hashable:
    """What flows of a batch have in common, as far as it is told at a glance."""
    control = simulation.control
    shape = simulation.velocity.coefficients[0].shape
    return shape, simulation.operators.dtype, simulation.nu, control.cfl, control.fixed, control.dt_max, control.frame


class Batch:
    """Flows on one grid, under one set of equations, each with its own state.

    Each equals the same flow by itself to round-off: it has its own time, and steps of the length that its control
    chooses.

    Parameters
    ----------
    simulations : the flows; `step` moves the state of each. Their equations are those of the first, but for closures.
    alike : whether their closures are the same function of the velocity. If so, and if it says by a true attribute
        ``batches`` that it can be, the first is asked for all at once; otherwise each is asked for its own flow.

    Attributes
    ----------
    lost : why a flow was lost, by its number. It stays as it was before the step at which that was found.

    Raises
    ------
    CaseError : such flows cannot be advanced as one, see `refusal`; what their closures remember is out of step.
    """

    def __init__(self, simulations: Sequence[Simulation], alike: bool = True) -> None:
        self.simulations, first = list(simulations), simulations[0]
        if reason := refusal(first.flow):
            raise CaseError(f"a batch of flows cannot have {reason}: run them one after another")
        if len({_kind(simulation) for simulation in self.simulations}) > 1:
            raise CaseError(
                "a batch of flows has one grid, precision, viscosity and control of the step: run them alone"
            )
        op, control = first.operators, first.control
        operators = Operators(op.grid, op.decomposition, op.device, op.dtype, len(self.simulations), op.engine)
        jointly = first.closure is None or (alike and getattr(first.closure, "batches", False))
        self.closure = (Jointly if jointly else InTurn)([simulation.flow for simulation in self.simulations])
        self.closure.gathered([simulation.state.closure for simulation in self.simulations])  # if they can be
        model = None if first.closure is None else self.closure
        frame = control.frame[0]
        self.flow = Flow(operators, first.nu, model, first.forcing.on(operators), frame=frame)
        self.control = StepControl(operators, control.cfl, control.fixed, control.dt_max, frame=frame)
        self.stepper = SolverStep(self.flow, self.control)
        self.lost: dict[int, Diverged] = {}
        self._given: list[State] = []
        self._state: State | None = None

    @torch.no_grad()
    def step(self, longest: Sequence[float] | None = None) -> None:
        """Advance every flow by the step that its control chooses, but by no more than its `longest`.

        Raises
        ------
        CaseError : the closures' memories differ otherwise than in their fields.
        """
        limit: Number = math.inf
        if longest is not None:
            limit = torch.tensor(longest, dtype=torch.float64, device=self.flow.operators.device).view(-1, 1, 1, 1)
        self._state = self.stepper(self._present(), limit)
        found = self.control.found.flatten(1).cpu().T.tolist()
        spans = self._spans()
        for number, simulation in enumerate(self.simulations):
            try:
                dt = simulation.control.read(*found[number])
            except Diverged as problem:
                self.lost.setdefault(number, problem)
            else:
                simulation.state = self._member(number, simulation.state, dt, spans[number])
        self._given = [simulation.state for simulation in self.simulations]

    def _spans(self) -> list[float]:
        """Of the last stage of each."""
        assert self._state is not None
        assert self._state.pressure is not None
        spans: list[float] = torch.as_tensor(self._state.pressure.span).flatten().tolist()
        return spans

    def _present(self) -> State:
        """All states as one: that of the last step, unless somebody has given a flow another since."""
        states = [simulation.state for simulation in self.simulations]
        known = self._state
        if known is not None and all(a is b for a, b in zip(states, self._given, strict=True)):
            return known
        begun, memory = [state.velocity.coefficients for state in states], [state.closure for state in states]
        t = torch.tensor([state.t for state in states], dtype=torch.float64, device=self.flow.operators.device)
        return replace(self.begun(begun), t=t.view(-1, 1, 1, 1), closure=self.closure.gathered(memory))

    def begun(self, velocities: Sequence[Components]) -> State:
        """The state at t = 0 of all, of velocities that need no projection; gradients flow through.

        `stepper` leads on from it, and `apart` is the way back.
        """
        return self.flow.start(self.joined(velocities), settled=True)

    @staticmethod
    def joined(velocities: Sequence[Components]) -> Components:
        """The coefficients of all flows, of those of each."""
        u, v, w = (together([velocity[i] for velocity in velocities]) for i in range(3))
        return u, v, w

    @staticmethod
    def apart(velocity: Components) -> list[Components]:
        """The coefficients of each flow, of those of all."""
        return [(u, v, w) for u, v, w in zip(*(f.unbind(-4) for f in velocity), strict=True)]

    def _member(self, number: int, before: State, dt: float, span: float) -> State:
        """What the step has made of one of them."""
        after, flow = self._state, self.simulations[number].flow
        assert after is not None
        assert after.pressure is not None
        u, v, w = (f.select(-4, number) for f in after.velocity.coefficients)
        drive = after.drive.flatten()[number] if isinstance(after.drive, Tensor) else after.drive
        return State(
            flow.velocity((u, v, w)),
            before.t + dt,
            before.step + 1,
            dt,
            closure=self.closure.member(after.closure, number),
            pressure=Pressure(after.pressure.potential.select(-4, number), span),
            drive=drive,
        )
