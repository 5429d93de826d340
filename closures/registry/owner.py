"""The whole field on rank 0, for closures that read all of it: gathered, asked there, and the answer sent back."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from closures.algebraic.geometry import PerGrid
from solver.discretisation.calculus import Operators
from solver.discretisation.gradient import VelocityGradient
from solver.discretisation.staggered import y_slowest
from solver.discretisation.velocity import Velocity
from solver.errors import SolverError
from solver.flow.closure import EddyViscosity, State, SubgridForce, SubgridStress, SubgridTerm
from solver.parallel import ranks
from solver.parallel.slabs import Slabs

Answer = tuple[SubgridTerm | None, State]


class Owner:
    """Asks on rank 0 about the flow as one rank would have it; every method is collective."""

    def __init__(self) -> None:
        self.whole = PerGrid(_whole)

    def state(self, operators: Operators, start: Callable[[Operators], State]) -> State:
        """This rank's part of a first state."""
        strain = self.whole(operators)
        return _shared(operators, lambda: (None, start(strain.operators) if strain else {}))[1]

    def term(self, velocity: Velocity, state: State, ask: Callable[[Velocity, State], Answer]) -> Answer:
        """This rank's part of an answer."""
        operators = velocity.operators
        strain = self.whole(operators)
        gathered = [operators.gather(c) for c in velocity.coefficients]
        joined = {name: _joined(operators, value) for name, value in state.items()}

        def act() -> Answer:
            assert strain is not None
            u, v, w = (strain.operators.scatter(c) for c in gathered if c is not None)
            own = {name: value for name, value in joined.items() if value is not None}
            return ask(Velocity(strain, (u, v, w)), own)

        return _shared(operators, act)


def _whole(operators: Operators) -> VelocityGradient | None:
    """The calculus of the whole grid on the root, None elsewhere."""
    grid, inflow = operators.grid, operators.inflow
    entering = None if inflow is None else [operators.gather(f) for f in inflow]
    if not operators.decomposition.is_root:
        return None
    alone = Slabs(grid.shape[1], grid.coefficient_shape[0], grid.y.periodic, ranks.alone())
    whole = Operators(grid, alone, operators.device, operators.dtype)
    if entering is not None:
        u, v, w = (whole.scatter(f) for f in entering if f is not None)
        whole.inflow = u, v, w
    return VelocityGradient(whole)


def _joined(operators: Operators, value: Tensor) -> Tensor | None:
    """An entry of a state on the root: as in checkpoints, what has this rank's planes is joined along y."""
    slabs = operators.decomposition
    other = value.ndim < 3 or value.shape[-2] != slabs.local_ny
    if slabs.agree(other):
        return value
    whole = slabs.gather_planes(value)
    return None if whole is None else whole.to(operators.device)


def _shared(operators: Operators, act: Callable[[], Answer]) -> Answer:
    """What `act` gives on the root, or raises there, for every rank."""
    slabs, answer, problem = operators.decomposition, None, None
    if slabs.is_root:
        try:
            answer = act()
        except SolverError as error:
            problem = error
    problem = slabs.broadcast(problem)
    if problem is not None:
        raise problem
    term, state = answer if answer is not None else (None, {})
    kind = slabs.broadcast(type(term))
    fields = _fields(term)
    if kind is not type(None):
        whole = torch.stack(fields) if fields else None
        fields = list(y_slowest(slabs.scatter_planes(whole).to(operators.device)).unbind())
    here = {}
    for name in slabs.broadcast(list(state)):
        value = state.get(name)
        split = slabs.broadcast(value is not None and value.ndim >= 3 and value.shape[-2] == slabs.ny)
        part = slabs.scatter_planes(value) if split else slabs.broadcast(None if value is None else value.cpu())
        here[name] = part.to(operators.device) if split else part
    return _term(kind, fields), here


def _fields(term: SubgridTerm | None) -> list[Tensor]:
    if isinstance(term, EddyViscosity):
        return [term.nu_t]
    return [] if term is None else list(term.tau if isinstance(term, SubgridStress) else term.force)


def _term(kind: type, fields: list[Tensor]) -> SubgridTerm | None:
    if kind is EddyViscosity:
        return EddyViscosity(fields[0])
    if kind is SubgridForce:
        return SubgridForce((fields[0], fields[1], fields[2]))
    if kind is SubgridStress:
        xx, yy, zz, xy, xz, yz = fields
        return SubgridStress((xx, yy, zz, xy, xz, yz))
    return None
