"""Eddy viscosities that depend on the gradient at a point and on the grid, and on nothing else."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import Literal

from torch import Tensor

from closures.algebraic.geometry import PerGrid
from solver.discretisation.calculus import Components, Operators
from solver.discretisation.fusion import fused
from solver.discretisation.gradient import Derivatives, VelocityGradient
from solver.discretisation.velocity import Gradient, Velocity
from solver.flow.closure import EddyViscosity, State

# What every model of this package is equivariant under; "rotation" by quarter turns, on grids that have them.
SYMMETRIES = frozenset({"galilean", "shift", "reflection", "rotation"})


_plain_gradient = inspect.unwrap(VelocityGradient.centred)


def unfused_gradient(strain: VelocityGradient, staggered: Components, spectral: Derivatives) -> Gradient:
    """`Velocity.gradient` as part of a larger kernel."""
    g = _plain_gradient(strain, staggered, spectral)
    return g[0:3], g[3:6], g[6:9]


class PointwiseModel(ABC):
    """``nu_t = f(grad u, scale)`` at each point; subclasses say what the scale is and what f is.

    The coefficient may be a tensor that requires a gradient: recording one, the kernels run as plain torch.
    """

    name: str
    reach: int | Literal["global"] = 0
    symmetries = SYMMETRIES
    batches = True
    graph_cycle = 1

    def __init__(self) -> None:
        self.scale = PerGrid(self.grid_scale)

    def init(self, operators: Operators) -> State:
        """No memory."""
        return {}

    def __call__(self, velocity: Velocity, t: float, state: State) -> tuple[EddyViscosity, State]:
        """``nu_t`` at cell centres, length^2/time, and the state unchanged."""
        scale = self.scale(velocity.operators)
        spectral = velocity.spectral_derivatives
        return EddyViscosity(self.evaluate(velocity.staggered, spectral, scale, velocity.strain)), state

    @fused
    def evaluate(self, staggered: Components, spectral: Derivatives, scale: Tensor, strain: VelocityGradient) -> Tensor:
        """Gradient and formula in one kernel: the nine components never reach memory."""
        return self.eddy_viscosity(unfused_gradient(strain, staggered, spectral), scale)

    @staticmethod
    @abstractmethod
    def grid_scale(operators: Operators) -> Tensor:
        """Constant of the grid on this rank, broadcastable to the local field."""

    @abstractmethod
    def eddy_viscosity(self, gradient: Gradient, scale: Tensor) -> Tensor:
        """The formula, of plain tensors."""
