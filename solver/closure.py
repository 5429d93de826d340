"""The closure interface: what a subgrid model reads, what it returns, and the sign conventions.

``tau_ij = bar(u_i u_j) - u_i u_j`` joins the resolved flux; for an eddy viscosity its deviatoric part is
``-2 nu_t s_ij``; the energy it drains is ``eps_sgs = -tau_ij s_ij > 0``. Order of six: xx yy zz xy xz yz.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from torch import Tensor

from solver.grid import Grid
from solver.operators import Operators
from solver.velocity import Velocity

State = dict[str, Tensor]


@dataclass(frozen=True)
class EddyViscosity:
    """``nu_t`` at cell centres, (nx, local ny, nz), length^2/time."""

    nu_t: Tensor


@dataclass(frozen=True)
class SubgridStress:
    """``tau_ij`` at cell centres, six fields (nx, local ny, nz) in the order xx yy zz xy xz yz, velocity^2."""

    tau: tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class SubgridForce:
    """An acceleration at cell centres, three fields (nx, local ny, nz), velocity/time."""

    force: tuple[Tensor, Tensor, Tensor]


SubgridTerm = EddyViscosity | SubgridStress | SubgridForce


class Closure(Protocol):
    """A subgrid model. It sees its arguments only, so equal arguments give equal answers.

    ``reach`` is the number of halo planes in y it reads beyond those of the gradient, or ``"global"``.
    ``symmetries`` names what it is equivariant under, for the contract suite.
    """

    name: str
    reach: int | Literal["global"]

    def init(self, operators: Operators) -> State:
        """The state before the first step; it is checkpointed, and passed back at every call."""
        ...

    def __call__(self, velocity: Velocity, t: float, state: State) -> tuple[SubgridTerm, State]:
        """The subgrid term of this instant and the next state."""
        ...


class ClosureFactory(Protocol):
    """What the registry holds: builds a closure for a grid and a viscosity from the case's ``[closure]`` table."""

    def __call__(self, *, grid: Grid, nu: float, **options: Any) -> Closure:
        """Build the closure; raises CaseError for options it does not know."""
        ...
