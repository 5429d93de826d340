"""A subgrid model of another package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal
from weakref import WeakSet

import torch
from torch import Tensor

from closures.registry.guest_checks import Checks
from closures.registry.owner import Owner
from solver.case.plugins import Origin
from solver.discretisation.calculus import Operators
from solver.discretisation.gradient import VelocityGradient
from solver.discretisation.velocity import Velocity
from solver.flow.closure import State, SubgridTerm

Answer = tuple[SubgridTerm | None, State]
ROUND_OFF = 1e3  # units of the last place between a field computed in two ways


class Guest:
    """A subgrid model of another package.

    One that needs the whole field (``reach = "global"``) is asked on rank 0, which gathers the velocity and sends the
    answer back; any other is asked on every rank, about its own planes.

    Parameters
    ----------
    closure : what the package made.
    origin : where it comes from.
    files : what it was made of, for the provenance of a run.

    Raises
    ------
    ClosureError : it is no closure, by what it lacks.
    """

    gathers = True

    def __init__(self, closure: Any, origin: Origin, files: dict[str, Any] | None = None) -> None:
        self.closure, self.checks = closure, Checks(origin)
        self.checks.interface(closure)
        self.name: str = closure.name
        self.reach: int | Literal["global"] = closure.reach
        self.symmetries: frozenset[str] = frozenset(getattr(closure, "symmetries", ()))
        self.slabs: tuple[str, ...] = tuple(getattr(closure, "slabs", ()))
        self.graph_cycle = int(getattr(closure, "graph_cycle", 0))
        about = {"entry_point": origin.value, "package": origin.package, "package_version": origin.version}
        self.facts: dict[str, Any] = about | (files or {}) | dict(getattr(closure, "facts", {}))
        self.owner = Owner() if self.gathers and self.reach == "global" else None
        self._known: WeakSet[Operators] = WeakSet()  # where a first answer was looked at closely

    def init(self, operators: Operators) -> State:
        """The state before the first step (collective)."""
        slabs = operators.decomposition
        if isinstance(self.reach, int) and slabs.size > 1 and self.reach > min(slabs.plane_counts):
            thin = f"{self.reach} planes of its neighbours, which have {min(slabs.plane_counts)}"
            raise self.checks.problem(f"reads {thin}: use fewer ranks")
        if self.owner and slabs.size > 1:
            return self.owner.state(operators, self._started)
        return self._started(operators)

    def __call__(self, velocity: Velocity, t: float, state: State) -> Answer:
        """The term of this instant, and the next state (collective)."""
        if self.owner is None or velocity.operators.decomposition.size == 1:
            return self._asked(velocity, t, state)
        if type(velocity.strain) is not VelocityGradient:
            raise self.checks.problem("reads the whole field, which is gathered where no solids are: use one rank")
        return self.owner.term(velocity, state, lambda whole, own: self._asked(whole, t, own))

    def _started(self, operators: Operators) -> State:
        with self.checks.named("init"):
            state = self.closure.init(operators)
        return self.checks.state(state, "init")

    def _asked(self, velocity: Velocity, t: float, state: State) -> Answer:
        with self.watched(velocity) as first, self.checks.named("__call__"):
            answer = self.closure(velocity, t, state)
        term, after = self.checks.pair(answer, "__call__")
        self.checks.term(term, velocity.operators, first)
        return term, after

    @contextmanager
    def watched(self, velocity: Velocity) -> Iterator[bool]:
        """Refuse edits of the velocity: those of torch at every call, any other way at the first, which is told."""
        first = velocity.operators not in self._known
        held = [(f, _version(f)) for f in _tensors(list(vars(velocity).values()))]
        copies = [c.clone() for c in velocity.coefficients] if first else []
        yield first
        edited = any(_version(f) != version for f, version in held)
        if edited or (first and _differ(velocity, Velocity(velocity.strain, (copies[0], copies[1], copies[2])))):
            raise self.checks.problem("edits the velocity it is handed: write a * b or a.clone(), not a *= b")
        self._known.add(velocity.operators)


def _tensors(value: Any) -> list[Tensor]:
    """Every tensor in nested sequences and dictionaries."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [f for part in value for f in _tensors(part)] if isinstance(value, tuple | list) else []


def _version(f: Tensor) -> int:
    """How often a tensor was edited, as far as torch knows."""
    return 0 if f.is_inference() else f._version


@torch.no_grad()
def _differ(velocity: Velocity, fresh: Velocity) -> bool:
    """Whether what `velocity` holds is not what follows from its coefficients before (collective)."""
    for name in ("coefficients", "padded_coefficients", "spectral_derivatives", "staggered", "centred", "gradient"):
        if name not in vars(velocity):
            continue
        for f, expected in zip(_tensors(getattr(velocity, name)), _tensors(getattr(fresh, name)), strict=True):
            near = ROUND_OFF * torch.finfo(f.dtype).eps * float(expected.abs().max())
            if not float((f - expected).abs().max()) <= near:
                return True
    return False
