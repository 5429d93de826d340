"""The solver as a differentiable function: some steps unrolled, each computed again in the backward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from solver.discretisation.calculus import Components
from solver.discretisation.velocity import Velocity
from solver.errors import CaseError
from solver.flow.closure import State
from solver.flow.projection import BoxProjection
from solver.flow.simulation import Simulation


def check_gradient(simulation: Simulation) -> None:
    """Raises CaseError for a flow through whose projection no gradient passes."""
    if not isinstance(simulation.projection, BoxProjection):
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
    simulation : with a fixed step, on one rank, without solids; its velocity is not used, and left alone.
    segment : steps that are kept in memory together.

    Raises
    ------
    CaseError : the step is not fixed, or there are several ranks.
    """

    def __init__(self, simulation: Simulation, segment: int = 1) -> None:
        if simulation.control.fixed is None:
            raise CaseError("[time] dt: training through the solver needs a fixed step")
        if simulation.operators.decomposition.size > 1:
            raise CaseError("training through the solver runs on one rank: start several processes with torchrun")
        self.simulation, self.segment = simulation, segment

    def __call__(self, velocity: Components, steps: int, t: float = 0.0) -> Components:
        """The velocity `steps` steps after `velocity`, which is coefficients at time `t`."""
        return list(self.path(velocity, steps, steps, t))[-1]

    def path(self, velocity: Components, steps: int, every: int, t: float = 0.0) -> Iterator[Components]:
        """The velocities after every `every` of `steps` steps."""
        simulation = self.simulation
        state = simulation.closure.init(simulation.operators) if simulation.closure else {}
        for start in range(0, steps, every):
            done = start
            while done < min(start + every, steps):
                size = min(self.segment, start + every - done)
                velocity, state = self._segment(velocity, state, t + done * self._dt, size)
                done += size
            yield velocity

    @property
    def _dt(self) -> float:
        assert self.simulation.control.fixed is not None
        return self.simulation.control.fixed

    def _segment(self, velocity: Components, state: State, t: float, steps: int) -> tuple[Components, State]:
        names = list(state)

        def advance(u: Tensor, v: Tensor, w: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
            velocity, after = self._advance((u, v, w), dict(zip(names, values, strict=True)), t, steps)
            return *velocity, *(after[name] for name in names)

        arguments = (*velocity, *state.values())
        if torch.is_grad_enabled():
            result = checkpoint(advance, *arguments, use_reentrant=False)  # draws again what a dropout drew
        else:
            result = advance(*arguments)
        u, v, w, *values = result
        return (u, v, w), dict(zip(names, values, strict=True))

    def _advance(self, velocity: Components, state: State, t: float, steps: int) -> tuple[Components, State]:
        """Plain steps from here, whatever the simulation was doing."""
        simulation = self.simulation
        with _kept(simulation):
            simulation.velocity = Velocity(simulation.strain, velocity)
            simulation.closure_state, simulation.t = state, t
            simulation.differentiable = True
            for _ in range(steps):
                simulation.step()
            return simulation.velocity.coefficients, simulation.closure_state


@contextmanager
def _kept(simulation: Simulation) -> Iterator[None]:
    """What a simulation is doing comes back at the end."""
    names = ("velocity", "closure_state", "wall_state", "t", "step_count", "dt", "potential", "differentiable")
    held = {name: getattr(simulation, name) for name in names}
    try:
        yield
    finally:
        for name, value in held.items():
            setattr(simulation, name, value)
