"""From a predicted velocity to a divergence-free one: exactly in a box, iteratively around solids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from solver.discretisation.calculus import Components, Operators
from solver.pressure import adjoint
from solver.pressure.direct import DirectPressure
from solver.pressure.learned import guard_of
from solver.pressure.report import PressureSolver, SolveReport
from solver.pressure.tuning import SelfTuning
from solver.solids.outlet import Outlet
from solver.solids.walls import SolidWalls


class Projection(Protocol):
    """Projects a velocity at the end of a stage that covers `span` time units."""

    def __call__(self, velocity: Components, span: float) -> tuple[Components, Tensor]:
        """The divergence-free velocity and the potential whose gradient it lost: ``span`` times the pressure.

        A span of 0 stands for a field that no stage led to.
        """
        ...

    def summary(self, steps: int) -> dict[str, Any]:
        """What ``summary.json`` says about the solves."""
        ...


class BoxProjection:
    """Direct solution in a box without solids."""

    def __init__(self, operators: Operators) -> None:
        self.operators, self.pressure = operators, DirectPressure(operators)

    def __call__(self, velocity: Components, span: float) -> tuple[Components, Tensor]:
        """See `Projection`."""
        potential = self.pressure.solve(self.operators.divergence(velocity))
        return self.operators.subtract_gradient(velocity, potential), potential

    def summary(self, steps: int) -> dict[str, Any]:
        """Nothing: the solver is exact."""
        return {}


@dataclass
class Tally:
    """Sums over the reports of a run."""

    solves: int = 0
    iterations: int = 0
    seconds: float = 0.0
    worst_residual: float = 0.0

    def add(self, report: SolveReport) -> None:
        """Count one solve."""
        self.solves += 1
        self.iterations += report.iterations
        self.seconds += report.seconds
        self.worst_residual = max(self.worst_residual, report.residual)

    def per_step(self, steps: int) -> dict[str, Any]:
        """Means over `steps` steps."""
        steps = max(steps, 1)
        return {
            "solves": self.solves,
            "iterations_per_solve": self.iterations / max(self.solves, 1),
            "iterations_per_step": self.iterations / steps,
            "seconds_per_step": self.seconds / steps,
            "worst_residual": self.worst_residual,
        }


@dataclass(frozen=True)
class Response:
    """What a unit acceleration along x makes of fluid at rest, per unit time, once it is divergence-free.

    Parameters
    ----------
    velocity, potential : coefficients.
    impulse : what the solids took, on this rank.
    """

    velocity: Components
    potential: Tensor
    impulse: Tensor


class ObstructedProjection:
    """Projection onto what flows between solids, from a warm start, with the momentum that the solids take.

    A stage leaves in the blocked components the momentum that stresses and the mean pressure gradient carry into the
    solids, and the gradient of its potential the rest. Both are summed before they are set to zero: this impulse is
    exactly what the fluid loses.

    Parameters
    ----------
    walls : the masks.
    solver : of the pressure equation with the same solids.
    name : of the solver, for the summary.
    outlet : the end of x, if fluid leaves there.
    """

    name = "projection"  # of its entry in checkpoints

    def __init__(self, walls: SolidWalls, solver: PressureSolver, name: str, outlet: Outlet | None = None) -> None:
        self.operators, self.walls = walls.operators, walls
        self.solver, self.solver_name, self.outlet = solver, name, outlet
        self.tuning = solver if isinstance(solver, SelfTuning) else None
        self.guard = guard_of(solver)
        self.tally = Tally()
        self.volume = walls.fluid
        for axis, line in enumerate(self.operators.grid.axes):
            self.volume = self.volume * self.operators.along(self.operators.local(np.asarray(line.width), axis), axis)
        self.impulse = self.operators.tensor([0.0, 0.0, 0.0])
        self.potential: Tensor | None = None
        self._pressure: Tensor | None = None

    def __call__(self, velocity: Components, span: float) -> tuple[Components, Tensor]:
        """See `Projection`; blocked components of the result are zero.

        Raises
        ------
        PressureSolveError : the solver did not reach its tolerance; it says why.
        """
        guess = None if self._pressure is None or span == 0 else self._pressure * span
        velocity, self.potential, impulse = self._project(velocity, guess)
        self._pressure = None
        if span > 0:
            self.impulse = self.impulse + impulse.detach()
            self._pressure = self.potential.detach() / span
        return velocity, self.potential

    def _project(self, velocity: Components, guess: Tensor | None) -> tuple[Components, Tensor, Tensor]:
        """Velocity, potential and impulse on the solids of this rank."""
        op, walls = self.operators, self.walls
        deposited = walls.blocked_momentum(velocity)
        velocity = walls.masked(velocity)
        if self.outlet is not None:
            velocity = self.outlet.balance(velocity[0]), velocity[1], velocity[2]
        source = op.divergence(velocity)
        guess = torch.zeros_like(source) if guess is None else guess
        potential, report = adjoint.solve(self.solver, source, guess, self.volume)
        self.tally.add(report)
        velocity = op.subtract_gradient(velocity, potential)
        return walls.masked(velocity), potential, deposited + walls.blocked_momentum(velocity)

    def response(self) -> Response:
        """To a unit acceleration along x (collective)."""
        still = [torch.zeros_like(f) for f in self.walls.free]
        return Response(*self._project((torch.ones_like(still[0]), still[1], still[2]), None))

    def add(self, response: Response, amount: Tensor | float) -> None:
        """Count a multiple of the response in the potential and the impulse of the present stage."""
        assert self.potential is not None
        self.potential.add_(amount * response.potential)
        self.impulse = self.impulse + torch.as_tensor(amount).detach() * response.impulse

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: the last pressure, from which the next solve starts (collective)."""
        whole = None if self._pressure is None else self.operators.gather(self._pressure)
        return {} if whole is None else {"pressure": whole}

    def restore(self, state: dict[str, Any]) -> None:
        """Start the next solve from `state`."""
        self._pressure = self.operators.scatter(state["pressure"])

    def taken(self) -> tuple[float, float, float]:
        """The impulse on the solids since the last call, x, y, z, per unit density (collective)."""
        total, self.impulse = self.operators.decomposition.sum(self.impulse), torch.zeros_like(self.impulse)
        x, y, z = total.tolist()
        return x, y, z

    def summary(self, steps: int) -> dict[str, Any]:
        """Solver, iterations and seconds; what a solver that tunes itself or is learned went through."""
        found = {"solver": self.solver_name} | self.tally.per_step(steps)
        if self.tuning:
            found |= {"arms": self.tuning.summary()}
        if self.guard:
            found |= {"guard_interventions": self.guard.interventions}
        return {"pressure": found}
