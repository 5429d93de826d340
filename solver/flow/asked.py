"""How a closure is asked for a batch of flows: for all at once, or for one after another."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Literal, cast

import torch
from torch import Tensor

from solver.discretisation.calculus import Components, Operators
from solver.discretisation.gradient import Derivatives
from solver.discretisation.staggered import together
from solver.discretisation.velocity import Velocity
from solver.errors import CaseError
from solver.flow.closure import Closure, EddyViscosity, State, SubgridForce, SubgridStress, SubgridTerm
from solver.flow.flow import Flow
from solver.flow.number import Number


class Jointly:
    """The closure of the first flow, for all; its memory has the fields of each, and one set of counts."""

    def __init__(self, flows: Sequence[Flow]) -> None:
        self.flows, self.closure = list(flows), flows[0].closure
        self.name = "none" if self.closure is None else self.closure.name
        self.reach: int | Literal["global"] = 0 if self.closure is None else self.closure.reach

    def init(self, operators: Operators) -> State:
        """The memories with which the flows begin."""
        return self.gathered([self.flows[0].memory()] * len(self.flows))

    def __call__(self, velocity: Velocity, t: Number, state: State) -> tuple[SubgridTerm | None, State]:
        """Its term for all, and the next memory."""
        return (None, state) if self.closure is None else self.closure(velocity, cast("float", t), state)

    def gathered(self, states: Sequence[State]) -> State:
        """The memories of all flows as one.

        Raises
        ------
        CaseError : they count differently, or remember different things.
        """
        if any(state.keys() != states[0].keys() for state in states):
            raise CaseError(f"closure '{self.name}': flows of a batch remember different things: begin them together")
        found = {}
        for key, first in states[0].items():
            fields = [state[key] for state in states]
            if first.ndim < 3 and any(not torch.equal(first, f) for f in fields):
                raise CaseError(f"closure '{self.name}': flows of a batch differ in {key}: begin them together")
            found[key] = first if first.ndim < 3 else together(fields)
        return found

    def member(self, state: State, number: int) -> State:
        """The memory of one flow."""
        return {key: f if f.ndim < 4 else f.select(-4, number) for key, f in state.items()}


class InTurn:
    """A closure for each flow, asked one after another; only what they read of the velocity is made for all at once."""

    def __init__(self, flows: Sequence[Flow]) -> None:
        self.flows = list(flows)
        first = self._closure(0)
        self.name, self.reach = first.name, first.reach

    def _closure(self, number: int) -> Closure:
        closure = self.flows[number].closure
        assert closure is not None
        return closure

    def init(self, operators: Operators) -> State:
        """The memories with which the flows begin."""
        return self.gathered([flow.memory() for flow in self.flows])

    def __call__(self, velocity: Velocity, t: Number, state: State) -> tuple[SubgridTerm | None, State]:
        """The terms of all, and their memories.

        Raises
        ------
        CaseError : their terms are of different kinds.
        """
        terms, states = [], []
        times = t.flatten().tolist() if isinstance(t, Tensor) else [t] * len(self.flows)
        for number, flow in enumerate(self.flows):
            own = Member(velocity, number, flow)
            term, after = self._closure(number)(own, times[number], self.member(state, number))
            terms.append(term)
            states.append(after)
        return self._joined(terms), self.gathered(states)

    def _joined(self, terms: Sequence[SubgridTerm | None]) -> SubgridTerm | None:
        viscosities = [term.nu_t for term in terms if isinstance(term, EddyViscosity)]
        stresses = [term.tau for term in terms if isinstance(term, SubgridStress)]
        forces = [term.force for term in terms if isinstance(term, SubgridForce)]
        if len(viscosities) == len(terms):
            return EddyViscosity(together(viscosities))
        if len(stresses) == len(terms):
            xx, yy, zz, xy, xz, yz = (together(six) for six in zip(*stresses, strict=True))
            return SubgridStress((xx, yy, zz, xy, xz, yz))
        if len(forces) == len(terms):
            u, v, w = (together(three) for three in zip(*forces, strict=True))
            return SubgridForce((u, v, w))
        if any(term is not None for term in terms):
            raise CaseError(f"closure '{self.name}': flows of a batch differ in what it gives: run them one by one")
        return None

    def gathered(self, states: Sequence[State]) -> State:
        """The memories of all, by number."""
        return {f"{number} {key}": f for number, state in enumerate(states) for key, f in state.items()}

    def member(self, state: State, number: int) -> State:
        """The memory of one."""
        start = f"{number} "
        return {key.removeprefix(start): f for key, f in state.items() if key.startswith(start)}


class Member(Velocity):
    """The velocity of one flow of a batch, as its closure sees it; transforms are those of all.

    Parameters
    ----------
    every : the velocities of all.
    number : which one.
    flow : its equations, of a single flow.
    """

    def __init__(self, every: Velocity, number: int, flow: Flow) -> None:
        u, v, w = (f.select(-4, number) for f in every.coefficients)
        super().__init__(flow.strain, (u, v, w))
        self.every, self.number = every, number

    def _own(self, fields: Components) -> Components:
        u, v, w = (f.select(-4, self.number) for f in fields)
        return u, v, w

    @cached_property
    def padded_coefficients(self) -> Components:
        """Coefficients with ghosts."""
        return self._own(self.every.padded_coefficients)

    @cached_property
    def staggered(self) -> Components:
        """u, v, w in physical space where they live, with ghosts."""
        return self._own(self.every.staggered)

    @cached_property
    def spectral_derivatives(self) -> Derivatives:
        """Derivatives along Fourier axes."""
        found: dict[tuple[int, int], Tensor] = self.every.spectral_derivatives
        return {key: f.select(-4, self.number) for key, f in found.items()}
