"""Which flows have a residual, what it is the residual of, and whether that is what an operator was trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from closures.loop.resample import network_grid
from closures.operators.domain import Domain, same
from solver.axis import FiniteVolumeAxis
from solver.closure import Closure
from solver.errors import CaseError
from solver.grid import Grid
from solver.operators import Components, Operators
from solver.projection import BoxProjection
from solver.simulation import Simulation


def check_teacher(simulation: Simulation) -> None:
    """Raises CaseError for a flow whose residual is not available, by name."""
    operators, closure = simulation.operators, simulation.closure
    if operators.decomposition.size > 1:
        raise CaseError("the LES residual is taken on one rank: start several processes with torchrun")
    if operators.grid.is_open:
        raise CaseError("[grid.x] the LES residual has no open ends: inflow and outflow depend on the past")
    if not isinstance(simulation.projection, BoxProjection):
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
                    f"[grid] the LES residual of {_points(operators.grid)} was asked for coefficients of shape "
                    f"{tuple(component.shape)}, not {shape}: use the grid that it was made for"
                )


def describe(simulation: Simulation) -> dict[str, Any]:
    """Everything that a residual depends on, as plain values."""
    grid, closure = simulation.operators.grid, simulation.closure
    return {
        "grid": Domain.of(network_grid(grid)).describe(),
        "boundaries": {name: _ends(grid, d) for d, name in enumerate("xyz")},
        "closure": "none" if closure is None else _closure(closure),
        "nu": simulation.nu,
        "forcing": type(simulation.forcing).__name__,
    }


def check_same(own: Mapping[str, Any], trained: Mapping[str, Any]) -> None:
    """Raises CaseError, naming it, if something differs from the equations an operator was trained on.

    Parameters
    ----------
    own, trained : two results of `LesResidual.describe`.
    """
    for name, what in (("boundaries", "boundary conditions"), ("closure", "closure"), ("forcing", "forcing")):
        if own[name] != trained[name]:
            raise CaseError(
                f"the operator was trained on the equations with {what} {trained[name]}, not {own[name]}: "
                "use those, or train it again"
            )
    if not same(own["grid"], trained["grid"]):
        there, here = (" x ".join(str(len(d["grid"][n]["points"])) for n in "xyz") for d in (trained, own))
        raise CaseError(
            f"the operator was trained on the equations of another grid ({there} points), not this one ({here})"
        )
    for name in ("nu", "interval"):
        there, here = trained[name], own[name]
        if not math.isclose(here, there, rel_tol=1e-9):
            raise CaseError(f"the operator was trained on the equations with {name} = {there:g}, not {here:g}")


def _closure(closure: Closure) -> str:
    """Name and constants; one whose constant is learned goes by its name."""
    if isinstance(closure, nn.Module):
        return closure.name
    known = {k: v for k, v in sorted(vars(closure).items()) if isinstance(v, int | float | str)}
    constants = ", ".join(f"{k} = {v}" for k, v in known.items() if k not in ("name", "nu"))
    return f"{closure.name} ({constants})" if constants else closure.name


def _ends(grid: Grid, direction: int) -> str:
    axis = grid.axes[direction]
    if axis.periodic or not isinstance(axis, FiniteVolumeAxis):
        return "periodic"
    return f"{axis.lower} .. {axis.upper}"


def _points(grid: Grid) -> str:
    return " x ".join(str(axis.n if axis.is_fourier else axis.points) for axis in grid.axes)  # type: ignore[union-attr]
