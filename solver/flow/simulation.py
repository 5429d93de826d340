"""A flow in motion: its state, step by step."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from solver.discretisation.calculus import Components
from solver.discretisation.velocity import Velocity
from solver.flow import closure
from solver.flow.closure import Corrector, SubgridTerm, Surrogate
from solver.flow.companions import Alternating, stepper
from solver.flow.flow import Flow
from solver.flow.graph import Recorder
from solver.flow.state import State
from solver.flow.time_step import StepControl
from solver.flow.wall_stress import Stress


class Simulation:
    """What hooks observe and a loop moves on.

    Steps record no gradients, or a run would keep them for ever; for those ask `runge_kutta`, or
    `closures.coupling.unrolled.Unrolled`.

    Parameters
    ----------
    flow : the equations.
    state : where it begins.
    control : chooses dt.
    recorder : records steps as graphs of a GPU; None: kernels are queued one by one.
    """

    def __init__(self, flow: Flow, state: State, control: StepControl, recorder: Recorder | None = None) -> None:
        self.flow, self.state, self.control = flow, state, control
        self.operators, self.nu, self.closure, self.forcing = flow.operators, flow.nu, flow.closure, flow.forcing
        self.timers = flow.timers
        self.stepper = stepper(flow, control, recorder)

    def __repr__(self) -> str:
        """Grid, closure and how far it is."""
        closure = self.closure.name if self.closure else "none"
        return f"<Simulation {self.operators.grid.in_words()}, closure {closure}, step {self.step_count}, t = {self.t}>"

    @torch.no_grad()
    def step(self, longest: float = math.inf, wait: float = math.inf) -> None:
        """Advance by the step the control chooses, but by no more than `longest`.

        A whole number of such steps makes up `wait`. A surrogate may take the place of the step, a corrector acts at
        its end.

        Raises
        ------
        Diverged : the velocity or the eddy viscosity is not finite.
        PressureSolveError : the pressure around solids did not reach its tolerance.
        """
        with self.timers("other"):
            self.state = self.stepper(self.state, longest, wait)

    @property
    def velocity(self) -> Velocity:
        """The present velocity."""
        return self.state.velocity

    @property
    def t(self) -> float:
        """Time."""
        return float(self.state.t)

    @property
    def dt(self) -> float:
        """Length of the last step."""
        return float(self.state.dt)

    @property
    def step_count(self) -> int:
        """Steps since t = 0."""
        return self.state.step

    @property
    def closure_state(self) -> closure.State:
        """What the closure remembers."""
        return self.state.closure

    @property
    def corrector(self) -> Corrector | None:
        """The closure, if it acts after steps."""
        return self.closure if isinstance(self.closure, Corrector) else None

    @property
    def surrogate(self) -> Surrogate | None:
        """The closure, if it takes the place of steps."""
        return self.closure if isinstance(self.closure, Surrogate) else None

    @property
    def residual_trust(self) -> float:
        """See `Alternating.residual`; nan without a surrogate."""
        return self.stepper.residual if isinstance(self.stepper, Alternating) else math.nan

    @property
    def misfit(self) -> Components | None:
        """See `Alternating.misfit`; None without a surrogate."""
        return self.stepper.misfit if isinstance(self.stepper, Alternating) else None

    @torch.no_grad()
    def present_term(self) -> SubgridTerm | None:
        """The closure's term for the present velocity, for observers."""
        return self.flow.present_term(self.state)

    @torch.no_grad()
    def present_stress(self) -> Stress | None:
        """The stress on modelled walls, for observers (collective)."""
        return self.flow.present_stress(self.state)

    @torch.no_grad()
    def pressure(self) -> Tensor:
        """Kinematic pressure at cell centres, (nx, local ny, nz), see `Flow.pressure` (collective)."""
        return self.flow.pressure(self.state)

    @property
    def max_divergence(self) -> float:
        """Largest ``|div u|`` over the points of the grid."""
        op = self.operators
        return float(op.decomposition.max(op.to_physical(op.divergence(self.velocity.coefficients)).abs().max()))
