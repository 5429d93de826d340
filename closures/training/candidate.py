"""A network trained by what it does to a running flow: the closure it makes there, and the artefact it becomes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from torch import nn

from closures.coupling.assemble import companion
from closures.coupling.frames import Frames
from closures.coupling.split_model import subgrid_model
from closures.coupling.zero_order_hold import STAGES
from closures.data.sets import Source
from closures.operators import artefact, build, kind
from closures.operators.artefact import Artefact, Card
from closures.registry import registry
from closures.training.begin import take_weights
from closures.training.stress_network import first_guess, role
from closures.training.tables import CardTable, OperatorTable
from solver.errors import CaseError
from solver.files.folder import commit
from solver.flow.closure import Closure
from solver.grid.grid import Grid


class Candidate(Protocol):
    """A network in one of the roles that a closure can have."""

    network: nn.Module

    def closure(self, grid: Grid, nu: float) -> Closure:
        """The closure that the network makes, whatever its weights are at the time."""
        ...

    def card(self, frames: Frames, source: Source) -> dict[str, Any]:
        """What its card says of its role; `frames` are those of its flow, `source` has its data."""
        ...


class StressModel:
    """A subgrid model, asked once a step, as in a run; without a guard, since a bad one loses its flow."""

    def __init__(self, operator: OperatorTable, begin: str | None) -> None:
        self.network = first_guess(operator, begin, "[ensemble]")

    def closure(self, grid: Grid, nu: float) -> Closure:
        """See `Candidate`."""
        return subgrid_model(self.network, grid=grid, nu=nu, calls=STAGES)

    def card(self, frames: Frames, source: Source) -> dict[str, Any]:
        """See `Candidate`."""
        return role(frames, source)


class StateOperator:
    """A corrector or surrogate that was trained offline; a refusal of the guard ends its run, as a lost flow does.

    Parameters
    ----------
    operator, begin : the network, and the folder of the artefact that has its first weights, units and times.
    options : of the closure, as in ``[closure]`` of a case.

    Raises
    ------
    CaseError : no artefact to begin with.
    """

    def __init__(self, operator: OperatorTable, begin: str | None, options: dict[str, Any]) -> None:
        if begin is None:
            raise CaseError(f"[ensemble] begin: '{operator.name}' steps a velocity: train it offline first")
        self.network, self.folder = build(operator.name, **operator.arguments), Path(begin)
        self.begun = take_weights(self.network, operator.name, begin, "[ensemble]")
        self.options = {"guard": {"patience": 1}, "start": 0.0} | options  # its flows are developed from the first

    def closure(self, grid: Grid, nu: float) -> Closure:
        """See `Candidate`."""
        found = Artefact(self.begun, self.network.eval())
        return companion(self.begun.role, self.folder, found, grid, nu, self.options, registry.create)

    def card(self, frames: Frames, source: Source) -> dict[str, Any]:
        """See `Candidate`."""
        return self.begun.model_dump(include={"scaling", "step", "interval", "solver_step", "start", "largest_answer"})


def candidate(operator: OperatorTable, begin: str | None, options: dict[str, Any]) -> Candidate:
    """What `operator` can be in a flow; raises CaseError if it cannot begin, or has no such options."""
    if kind(operator.name) == "state":
        return StateOperator(operator, begin, options)
    if options:
        raise CaseError(f"[ensemble.closure] {min(options)}: '{operator.name}' models the stress, it takes none here")
    return StressModel(operator, begin)


def write(
    out: Path,
    network: nn.Module,
    operator: OperatorTable,
    table: CardTable,
    source: Source,
    nu: float,
    metrics: dict[str, float],
    about: dict[str, Any],
) -> Card:
    """Write the artefact of a network trained on `source` in a flow of viscosity `nu`; `about` as `Candidate.card`."""
    about = {"grid": source.domain.describe()} | about
    return artefact.save(
        out,
        network,
        operator.name,
        operator.arguments,
        filter=str(source.attributes.get("filter", "unknown")),
        nu=(nu, nu),
        trained_on=table.trained_on,
        data_sha256=source.sha256,
        commit=commit()[0],
        metrics=metrics,
        licence=table.licence,
        **about,
    )


def write_unscaled(
    out: Path,
    network: nn.Module,
    operator: OperatorTable,
    table: CardTable,
    metrics: dict[str, float],
    data_sha256: str | None = None,
) -> Card:
    """Write the artefact of a network that belongs to no grid, viscosity or filter: of a matrix, or of a wall."""
    return artefact.save(
        out,
        network,
        operator.name,
        operator.arguments,
        scaling=None,
        step=0.0,
        filter="none",
        grid=None,
        nu=(0.0, 0.0),
        trained_on=table.trained_on,
        data_sha256=data_sha256,
        commit=commit()[0],
        metrics=metrics,
        licence=table.licence,
    )
