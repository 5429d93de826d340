"""The closure interface: what a subgrid model reads, what it returns, and the sign conventions.

``tau_ij = bar(u_i u_j) - u_i u_j`` joins the resolved flux; for an eddy viscosity its deviatoric part is
``-2 nu_t s_ij``; the energy it drains is ``eps_sgs = -tau_ij s_ij > 0``. Order of six: xx yy zz xy xz yz.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from solver.discretisation.calculus import Components, Operators
from solver.discretisation.velocity import Velocity
from solver.flow.number import Number
from solver.grid.grid import Grid

State = dict[str, Tensor]
STRESS_INDEX = {(0, 0): 0, (1, 1): 1, (2, 2): 2, (0, 1): 3, (0, 2): 4, (1, 2): 5}  # of a pair among the six


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
    ``symmetries`` names what it is equivariant under, for the contract suite. ``slabs``, if there is such an attribute,
    names the entries of its state that are fields (..., local ny, n), of which every rank has its planes; all others
    are the same on every rank. ``batches``, if there is such an attribute and it is true, says that it may be asked for
    a batch of flows at once: fields, and those in its state, then have one dimension more, -4, and `t` is that of each
    flow, (members, 1, 1, 1). ``graph_cycle``, if there is such an attribute and it is not 0, says that a call asks the
    host for nothing, takes `t` on the device, and does the same again after so many calls, counted in its state by
    integers without dimension: steps may then be recorded as graphs.
    """

    name: str
    reach: int | Literal["global"]

    def init(self, operators: Operators) -> State:
        """The state before the first step; it is checkpointed, and passed back at every call."""
        ...

    def __call__(self, velocity: Velocity, t: float, state: State) -> tuple[SubgridTerm | None, State]:
        """The subgrid term of this instant, None for none, and the next state."""
        ...


@runtime_checkable
class ScalarClosure(Closure, Protocol):
    """A closure with a subgrid flux of scalars of its own, in place of that of its eddy viscosity."""

    def scalar_flux(self, velocity: Velocity, gradient: Components, term: SubgridTerm) -> Components:
        """``bar(u_j s) - u_j s`` at cell centres, three fields (nx, local ny, nz), from the gradient of s there.

        `term` is what the closure gave for this velocity.
        """
        ...


class Companion(Closure, Protocol):
    """A closure that also acts between steps, at times of its own."""

    @property
    def facts(self) -> dict[str, Any]:
        """What ``summary.json`` says about it."""
        ...

    def wait(self, t: float) -> float:
        """Time from `t` to the next instant at which it wants a step to end; larger than zero."""
        ...


@runtime_checkable
class Corrector(Companion, Protocol):
    """Changes the velocity after some of the steps."""

    def correct(
        self, velocity: Velocity, t: float, step: int, state: State, project: Callable[[Components], Components]
    ) -> tuple[Components | None, State]:
        """The corrected velocity at the end of step number `step`, and the next state.

        `project` is the solver's own projection; the result should be divergence-free. None: nothing is due, or the
        correction was refused.
        """
        ...


@runtime_checkable
class Surrogate(Companion, Protocol):
    """Replaces the solver over macro steps of length `span`; in between, the solver and the closure act."""

    span: float

    def advance(
        self,
        velocity: Velocity,
        t: float,
        state: State,
        project: Callable[[Components], Components],
        misfit: Callable[[Components], float],
    ) -> tuple[Components | None, State]:
        """The velocity at ``t + span`` and the next state.

        None: the solver's turn, or the answer was refused and the solver should do these steps. `misfit` says how far
        an answer is from the solver's equations, see `Simulation.misfit`; every answer that is given is shown to it.
        """
        ...


class ClosureFactory(Protocol):
    """What the registry holds: builds a closure for a grid and a viscosity from the case's ``[closure]`` table."""

    def __call__(self, *, grid: Grid, nu: float, **options: Any) -> Closure:
        """Build the closure; raises CaseError for options it does not know."""
        ...


class Create(Protocol):
    """Makes closures by name, for those that are made of others."""

    def __call__(self, name: str, *, grid: Grid, nu: float, options: dict[str, Any] | None = None) -> Closure | None:
        """The closure called `name`, or None for "none"."""
        ...


class Answers:
    """Asks closures; what an observer has asked for serves the step that asks the same, since the answer is the same.

    So averages cost no evaluation of the closure. What is kept is forgotten at the next question of a step.
    """

    def __init__(self) -> None:
        self._kept: tuple[tuple[Closure, Velocity, State, float, bool], tuple[SubgridTerm | None, State]] | None = None

    def __call__(
        self, closure: Closure, velocity: Velocity, t: Number, state: State, keep: bool
    ) -> tuple[SubgridTerm | None, State]:
        """The closure's term and next state; `keep` them for who asks next."""
        t = cast("float", t)  # of a batch a tensor: closures that are asked for one say that they take it
        question = closure, velocity, state, t, torch.is_grad_enabled()
        kept, self._kept = self._kept, None
        same = kept is not None and all(a is b for a, b in zip(kept[0][:3], question[:3], strict=True))
        answer = kept[1] if kept and same and kept[0][3:] == question[3:] else closure(velocity, t, state)
        if keep:
            self._kept = question, answer
        return answer
