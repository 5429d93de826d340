"""Which flows have a residual."""

from __future__ import annotations

from collections.abc import Sequence

from solver.discretisation.calculus import Components, Operators
from solver.errors import CaseError
from solver.flow.simulation import Simulation


def check_teacher(simulation: Simulation) -> None:
    """Raises CaseError for a flow whose residual is not available, by name."""
    operators, closure = simulation.operators, simulation.closure
    if operators.decomposition.size > 1:
        raise CaseError("the LES residual is taken on one rank: start several processes with torchrun")
    if operators.grid.is_open:
        raise CaseError("[grid.x] the LES residual has no open ends: inflow and outflow depend on the past")
    if not simulation.flow.projection.is_exact:
        raise CaseError("[solids] the LES residual needs the direct pressure solver: remove [solids] and [pressure]")
    if closure is not None and any(hasattr(closure, method) for method in ("correct", "advance")):
        raise CaseError(f"[closure] '{closure.name}' acts between steps: the LES residual needs a subgrid model")


def check_frames(operators: Operators, frames: Sequence[Components]) -> None:
    """Raises CaseError if a trajectory does not consist of coefficient fields of these operators."""
    local = operators.squared_wavenumber.shape
    parts = operators.transform.parts
    shape = (parts, *(max(a, b) for a, b in zip(local, operators.grid.coefficient_shape, strict=True)))
    for frame in frames:
        for component in frame:
            if tuple(component.shape) != shape:
                raise CaseError(
                    f"[grid] the LES residual of {operators.grid.in_words()} was asked for coefficients of shape "
                    f"{tuple(component.shape)}, not {shape}: use the grid that it was made for"
                )
