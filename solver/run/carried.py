"""The scalars of a case, and what they are where a run begins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from solver.case.case import Case
from solver.case.case_tables import MassFluxTable
from solver.case.scalar_tables import ScalarTable
from solver.discretisation.calculus import Operators
from solver.errors import CaseError
from solver.files.checkpoint_file import Saved, latest
from solver.files.regrid import scalar_of
from solver.flow.closure import Closure, Surrogate
from solver.flow.scalars import End, Scalar
from solver.flow.state import State


def scalars_of(case: Case, closure: Closure | None = None) -> list[Scalar]:
    """What a case carries.

    Raises
    ------
    CaseError : the closure takes the place of steps, and knows no scalars.
    """
    if case.scalars and isinstance(closure, Surrogate):
        raise CaseError(
            f"[closure] '{case.closure.name}' takes the place of steps, which carry scalars: remove [[scalars]], "
            "or choose another closure"
        )
    forcing = case.flow.forcing
    return [
        scalar_of_table(t, forcing.bulk_velocity if isinstance(forcing, MassFluxTable) else 0.0) for t in case.scalars
    ]


def scalar_of_table(table: ScalarTable, bulk: float) -> Scalar:
    """The scalar that a table describes, in a flow of that bulk velocity."""
    ends = {place: End(wall.value, wall.flux or 0.0) for place, wall in table.ends().items()}
    source = table.source
    rate = source.rate if source is not None else 0.0
    along = source is not None and source.kind == "streamwise"
    return Scalar(
        table.name,
        table.prandtl,
        table.prandtl_t,
        ends,
        source=0.0 if along else rate,
        source_per_u=rate / bulk if along else 0.0,
    )


def with_scalars(state: State, case: Case, operators: Operators, saved: Saved | None) -> State:
    """The state with its scalars: those of a checkpoint, if it has them, else what the tables say (collective).

    The checkpoint is the `saved` one, or that of the run that the case begins with.

    Raises
    ------
    CaseError : a scalar of the checkpoint is not finite.
    """
    origin, run = saved, case.initial.run
    if case.scalars and saved is None and run is not None:
        origin = latest(Path(run), operators.decomposition.comm)
    found = {}
    for table in case.scalars:
        stored = scalar_of(origin, operators, table.name) if origin is not None else None
        if stored is None:
            stored = table.initial_per_u * state.velocity.coefficients[0]
            operators.mean_mode(stored).add_(table.initial)
        found[table.name] = stored
        if operators.decomposition.agree(not bool(torch.isfinite(stored).all())):
            raise CaseError(f"[[scalars]] {table.name}: not finite where the run begins: check the run it comes from")
    return replace(state, scalars=found)
