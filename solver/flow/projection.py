"""From a predicted velocity to a divergence-free one: exactly in a box, iteratively around solids."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from solver.discretisation.calculus import Components, Operators
from solver.flow.number import Number
from solver.pressure import adjoint
from solver.pressure.direct import DirectPressure
from solver.pressure.learned import guard_of
from solver.pressure.report import PressureSolver, SolveReport
from solver.pressure.tuning import SelfTuning
from solver.solids.outlet import Outlet
from solver.solids.walls import SolidWalls


@dataclass(frozen=True)
class Pressure:
    """Of the stage that it was solved for: a potential, coefficients in velocity x length, over the stage's span.

    Without the share of the drive, and with the diagonal flux that momentum leaves to it. A span of 0 stands for a
    tendency instead of a velocity: the potential is the pressure itself.
    """

    potential: Tensor
    span: Number

    @property
    def kinematic(self) -> Tensor:
        """Pressure over density, velocity^2."""
        return self.potential / self.span if self.span else self.potential

    def over(self, span: Number) -> Tensor:
        """The potential of a stage of that span, if the pressure stays."""
        return self.potential * (span / self.span) if self.span else self.potential * span


class Projected(NamedTuple):
    """What a projection gives: coefficients, the pressure, and what the solids took of the momentum (3,) on this rank.

    The latter is None where there are none. Then the sum over ranks of the `share` that each has given, if it was on
    the way (`Projection.carries_sums`).
    """

    velocity: Components
    pressure: Pressure
    impulse: Tensor | None
    total: Tensor | None = None


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


class Projection:
    """Onto what is divergence-free and, between solids, at rest in them.

    A stage leaves in the blocked components the momentum that stresses and the mean pressure gradient carry into the
    solids, and the gradient of its potential the rest. Both are summed before they are set to zero: this impulse is
    exactly what the fluid loses.

    Parameters
    ----------
    operators : the discrete calculus.
    solver : of the pressure equation, from a guess; by default the exact one of a box.
    name : of the solver, for the summary.
    walls : the masks of solids, if there are any.
    outlet : the end of x, if fluid leaves there.
    """

    def __init__(
        self,
        operators: Operators,
        solver: PressureSolver | None = None,
        name: str = "direct",
        walls: SolidWalls | None = None,
        outlet: Outlet | None = None,
    ) -> None:
        self.operators, self.solver, self.solver_name = operators, solver, name
        self.walls, self.outlet = walls, outlet
        self.direct = DirectPressure(operators) if solver is None else None
        self.tuning = solver if isinstance(solver, SelfTuning) else None
        self.guard = guard_of(solver) if solver is not None else None
        self.tally = Tally()

    @property
    def is_exact(self) -> bool:
        """Whether the solver of the box alone does it."""
        return self.solver is None

    @property
    def carries_sums(self) -> bool:
        """Whether the exchanges of the solver bring a sum over ranks, and leave no wait for it."""
        return self.direct is not None and self.direct.carries

    @cached_property
    def volume(self) -> Tensor:
        """Of the fluid cells, by which the solver's equations are weighted."""
        assert self.walls is not None
        volume = self.walls.fluid
        for axis, line in enumerate(self.operators.grid.axes):
            volume = volume * self.operators.along(self.operators.local(np.asarray(line.width), axis), axis)
        return volume

    def __call__(
        self, velocity: Components, span: Number = 0.0, guess: Pressure | None = None, share: Tensor | None = None
    ) -> Projected:
        """The velocity at the end of a stage that covers `span`, projected; `guess` is the pressure before.

        A span of 0 stands for a field that no stage led to, which has no guess either. `share` is for the `total`.

        Raises
        ------
        PressureSolveError : the solver did not reach its tolerance; it says why.
        """
        op, walls, impulse, total = self.operators, self.walls, None, None
        if walls is not None:
            impulse, velocity = walls.blocked_momentum(velocity), walls.masked(velocity)
        if self.outlet is not None:
            velocity = self.outlet.balance(velocity[0]), velocity[1], velocity[2]
        if self.direct is not None:
            potential, beyond, total = self.direct.of_velocity(op, velocity, share)
        else:
            near = None if guess is None or span == 0 else guess.over(span)
            potential, beyond = self._potential(op.divergence(velocity), near), None
        velocity = op.subtract_gradient(velocity, potential, beyond)
        if walls is not None and impulse is not None:
            impulse, velocity = impulse + walls.blocked_momentum(velocity), walls.masked(velocity)
        return Projected(velocity, Pressure(potential, span), impulse, total)

    def _potential(self, source: Tensor, guess: Tensor | None) -> Tensor:
        assert self.solver is not None
        guess = torch.zeros_like(source) if guess is None else guess.detach()
        potential, report = adjoint.solve(self.solver, source, guess, self.volume)
        self.tally.add(report)
        return potential

    def response(self) -> Response:
        """To a unit acceleration along x (collective)."""
        assert self.walls is not None
        still = [torch.zeros_like(f) for f in self.walls.free]
        velocity, pressure, impulse, _ = self((torch.ones_like(still[0]), still[1], still[2]))
        assert impulse is not None
        return Response(velocity, pressure.potential, impulse)

    def summary(self, steps: int) -> dict[str, Any]:
        """What ``summary.json`` says of the solver and what tuned itself; nothing of the exact one."""
        if self.solver is None:
            return {}
        found = {"solver": self.solver_name} | self.tally.per_step(steps)
        if self.tuning:
            found |= {"arms": self.tuning.summary()}
        if self.guard:
            found |= {"guard_interventions": self.guard.interventions}
        return {"pressure": found}
