"""Asking a network once a step: its answer stands for all stages."""

from __future__ import annotations

from collections.abc import Callable

import torch

from solver.flow.closure import EddyViscosity, State, SubgridStress, SubgridTerm
from solver.flow.runge_kutta import RK3

LEFT = "held_calls"
HELD = tuple(f"held_{i}" for i in range(6))
STAGES = len(RK3.spans)

Answer = tuple[SubgridTerm | None, State]


class ZeroOrderHold:
    """Asks for a term every `calls`-th time; in between the last answer stands.

    What is held lives in the closure's state, and is gone after the last call: with as many calls as a step has stages
    nothing is held between steps, and a checkpoint holds none of it. A subgrid term held for a step makes it of first
    order in time.

    Parameters
    ----------
    calls : 1 holds nothing.
    """

    def __init__(self, calls: int = STAGES) -> None:
        self.calls = calls

    def __call__(self, state: State, ask: Callable[[State], Answer]) -> Answer:
        """The term that is held, or that of `ask`; and the next state."""
        if LEFT in state:
            left = int(state[LEFT])
            rest = {name: value for name, value in state.items() if name != LEFT and name not in HELD}
            return _term(state), state | {LEFT: torch.tensor(left - 1)} if left > 1 else rest
        term, after = ask(state)
        if self.calls == 1 or term is None:
            return term, after
        return term, after | _fields(term) | {LEFT: torch.tensor(self.calls - 1)}


def _fields(term: SubgridTerm) -> State:
    if isinstance(term, EddyViscosity):
        return {HELD[0]: term.nu_t}
    assert isinstance(term, SubgridStress), "networks answer with a stress or an eddy viscosity"
    return dict(zip(HELD, term.tau, strict=True))


def _term(state: State) -> SubgridTerm:
    if HELD[1] not in state:
        return EddyViscosity(state[HELD[0]])
    xx, yy, zz, xy, xz, yz = (state[name] for name in HELD)
    return SubgridStress((xx, yy, zz, xy, xz, yz))
