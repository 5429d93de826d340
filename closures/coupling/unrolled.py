"""The solver as a differentiable function: some steps unrolled, each computed again in the backward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from solver.discretisation.calculus import Components
from solver.errors import CaseError
from solver.flow.companions import stepper
from solver.flow.number import Number
from solver.flow.simulation import Simulation
from solver.flow.state import State


def check_gradient(simulation: Simulation) -> None:
    """Raises CaseError for a flow through whose projection no gradient passes."""
    if not simulation.flow.projection.is_exact:
        raise CaseError(
            "[solids] an iterative pressure solver passes no gradient: train without [solids] and [pressure]"
        )


class Unrolled:
    """Steps of a simulation as a function of its velocity, and through the closure of the weights.

    Only the velocities between segments are kept; what happens within one is computed again when its gradient is
    wanted, so memory grows with the steps of a segment and not with all of them (Griewank & Walther 2000, ACM Trans.
    Math. Softw. 26, 19). The step has to be fixed: one that follows the velocity would move the end of the window.

    Parameters
    ----------
    simulation : with a fixed step, without solids; its velocity is not used, and left alone. Where several ranks share
        it, gradients are recorded within `solver.parallel.communicator.Communicator.recording`.
    segment : steps that are kept in memory together.

    Raises
    ------
    CaseError : the step is not fixed.
    """

    def __init__(self, simulation: Simulation, segment: int = 1) -> None:
        if simulation.control.fixed is None:
            raise CaseError("[time] dt: training through the solver needs a fixed step")
        self.simulation, self.segment = simulation, segment
        self.communicator = simulation.operators.decomposition.communicator
        self.step = stepper(simulation.flow, simulation.control)

    def __call__(self, velocity: Components, steps: int, t: float = 0.0) -> Components:
        """The velocity `steps` steps after `velocity`, which is coefficients at time `t`."""
        return list(self.path(velocity, steps, steps, t))[-1]

    def path(self, velocity: Components, steps: int, every: int, t: float = 0.0) -> Iterator[Components]:
        """The velocities after every `every` of `steps` steps."""
        state = replace(self.simulation.flow.start(velocity, settled=True), t=t)
        for start in range(0, steps, every):
            done = start
            while done < min(start + every, steps):
                size = min(self.segment, start + every - done)
                state = self._segment(state, size)
                done += size
            yield state.velocity.coefficients

    def _segment(self, state: State, steps: int) -> State:
        """The state some steps later: its velocity, and what closure and wall model remember."""
        closure, walls, flow = list(state.closure), list(state.walls), self.simulation.flow

        def made(tensors: Sequence[Tensor], t: Number) -> State:
            (u, v, w), rest = tensors[:3], tensors[3:]
            remembered = dict(zip(closure, rest, strict=False)), dict(zip(walls, rest[len(closure) :], strict=True))
            return State(flow.velocity((u, v, w)), t, closure=remembered[0], walls=remembered[1])

        def advance(link: Tensor | None, *tensors: Tensor) -> tuple[Any, ...]:
            with self.communicator.tied(link):
                after = made(tensors, state.t)
                for _ in range(steps):
                    after = self.step(after)
                kept = [after.closure[name] for name in closure] + [after.walls[name] for name in walls]
                return self.communicator.link, *after.velocity.coefficients, *kept

        fields = (*state.velocity.coefficients, *state.closure.values(), *state.walls.values())
        arguments: tuple[Any, ...] = (self.communicator.link, *fields)
        recording = torch.is_grad_enabled()  # then what a dropout drew is drawn again
        found = checkpoint(advance, *arguments, use_reentrant=False) if recording else advance(*arguments)
        self.communicator.link = found[0]
        assert self.simulation.control.fixed is not None
        return made(found[1:], state.t + steps * self.simulation.control.fixed)
