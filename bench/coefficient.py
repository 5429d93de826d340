"""A closure's constant as something to be learned from a flow."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from closures.losses.les_residual import LesResidual
from solver.discretisation.calculus import Components, Operators
from solver.discretisation.velocity import Velocity
from solver.errors import CaseError
from solver.flow.closure import Closure, State, SubgridTerm

CONSTANTS = {"smagorinsky": "c_s", "wale": "c_w", "vreman": "c", "sigma": "c_sigma"}


class LearnedCoefficient(nn.Module):
    """A subgrid model whose constant is a positive parameter: the exponential of what is trained.

    Raises
    ------
    CaseError : the closure has no constant to learn, or it starts at zero, where nothing can be learned.
    """

    def __init__(self, closure: Closure) -> None:
        super().__init__()
        if closure.name not in CONSTANTS:
            known = ", ".join(CONSTANTS)
            raise CaseError(f"[closure] '{closure.name}' has no constant to learn: use one of {known}")
        self.name, self.reach = closure.name, closure.reach
        self.constant, self.closure = CONSTANTS[closure.name], copy.copy(closure)
        start = float(getattr(closure, self.constant))
        if not start > 0:
            raise CaseError(f"[closure] {self.constant} = {start:g}: a constant that is learned starts above 0")
        self.logarithm = nn.Parameter(torch.tensor(math.log(start), dtype=torch.float64))

    @property
    def value(self) -> Tensor:
        """The constant."""
        return self.logarithm.exp()

    def init(self, operators: Operators) -> State:
        """That of the closure."""
        return self.closure.init(operators)

    def forward(self, velocity: Velocity, t: float, state: State) -> tuple[SubgridTerm | None, State]:
        """The closure's term with the present constant."""
        setattr(self.closure, self.constant, self.value.to(velocity.operators.dtype))
        return self.closure(velocity, t, state)


def fit_coefficient(residual: LesResidual, frames: Sequence[Components], iterations: int = 20) -> float:
    """The constant for which a given trajectory has the smallest residual; the closure keeps it.

    An eddy viscosity goes with the square of its constant, so the squared residual has one minimum.

    Parameters
    ----------
    residual : of a simulation whose closure is a `LearnedCoefficient`.
    frames : coefficient fields, of our own LES or of filtered direct simulations.
    iterations : of L-BFGS.

    Raises
    ------
    CaseError : the closure is not one whose constant is learned.
    """
    closure = residual.simulation.closure
    if not isinstance(closure, LearnedCoefficient):
        raise CaseError("[closure] its constant is fixed: wrap it in LearnedCoefficient to learn it")
    with torch.no_grad():
        scale = float(residual.dimensional(frames)) ** 2 or 1.0
    optimiser = torch.optim.LBFGS([closure.logarithm], max_iter=iterations, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        optimiser.zero_grad()
        loss = torch.stack([residual.square(r) for r in residual(frames)]).mean() / scale
        loss.backward()
        return loss

    with torch.enable_grad():
        optimiser.step(objective)  # type: ignore[arg-type]
    return float(closure.value.detach())
