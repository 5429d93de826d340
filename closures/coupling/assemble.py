"""From a trained network on disk and the ``[closure]`` table of a case to a closure under guard."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from closures.coupling.companion import Companion
from closures.coupling.corrector import StateCorrector
from closures.coupling.draws import Draws
from closures.coupling.familiarity import Familiarity
from closures.coupling.guard import Guard
from closures.coupling.guarded_model import GuardedModel
from closures.coupling.guarded_update import GuardedUpdate
from closures.coupling.resample import OWN, Points, network_grid
from closures.coupling.split_model import subgrid_model
from closures.coupling.surrogate import StateSurrogate
from closures.coupling.tables import TABLES, CompanionTable, CorrectorTable, SurrogateTable
from closures.coupling.zero_order_hold import STAGES
from closures.operators import artefact
from closures.operators.artefact import Artefact, ArtefactError, Card
from closures.operators.domain import Domain
from closures.operators.noise import draws
from closures.operators.shipped import shipped, with_artefact
from solver.case.explain import explain
from solver.case.plugins import OURS
from solver.errors import CaseError
from solver.flow.closure import Closure, Corrector, Create, Surrogate
from solver.grid.grid import Grid

log = logging.getLogger("solver")
SAME_LENGTH = 1e-6


def assemble(name: str, folder: Path, grid: Grid, nu: float, options: dict[str, Any], create: Create) -> Closure:
    """The closure that `name` and the network in `folder` make on a grid.

    Raises
    ------
    ArtefactError : the network cannot be used, or not here.
    CaseError : an option is unknown or wrong, or the network is not what the name says.
    """
    found = artefact.load(folder)
    card = found.card
    _check_name(name, card, folder)
    if not card.nu[0] * (1 - SAME_LENGTH) <= nu <= card.nu[1] * (1 + SAME_LENGTH):
        log.warning("%s: trained for nu = %g to %g, this case has %g: watch its errors", folder, *card.nu, nu)
    make = _subgrid_model if card.role == "subgrid_model" else companion
    return make(name, folder, found, grid, nu, options, create)


def _subgrid_model(
    name: str, folder: Path, found: Artefact, grid: Grid, nu: float, options: dict[str, Any], create: Create
) -> GuardedModel:
    table = _options(name, found.card, options)
    artefact.check_domain(found, Domain.of(grid), folder, named=Domain.of(network_grid(grid)))
    reserve = _other("fallback", table.fallback, table.fallback_options, grid, nu, create)
    model = subgrid_model(
        found.network,
        grid=grid,
        nu=nu,
        name=name,
        form=table.form,
        device=table.device,
        precision=table.precision,
        facts=_facts(folder, found.card, "fallback", reserve),
    )
    calls = STAGES if table.each == "step" else 1
    return GuardedModel(model, reserve, table.guard, found.card.largest_answer, calls)


def companion(
    name: str, folder: Path, found: Artefact, grid: Grid, nu: float, options: dict[str, Any], create: Create
) -> Companion:
    """A corrector or surrogate, as its card says, from the network `found` in `folder`; CaseErrors as of `assemble`."""
    card = found.card
    table = _options(name, card, options)
    if grid.is_open:
        raise CaseError(f"[closure] '{name}' acts on closed or periodic flows: use a subgrid model where fluid enters")
    seen = network_grid(grid, _points(card, grid))
    artefact.check_domain(found, Domain.of(seen), folder)
    base = _other("base", table.base, table.base_options, grid, nu, create)
    instead = "the solver" if isinstance(table, SurrogateTable) else "no correction"
    update = GuardedUpdate(
        found.predictor(),
        seen,
        Guard(table.guard, name, instead),
        largest=card.largest_answer,
        known=Familiarity.load(folder, card.familiar_sha256),
        divergence_free=not isinstance(table, SurrogateTable) or table.divergence_free,
        mass_flux=table.mass_flux,
        device=table.device,
        precision=table.precision,
    )
    facts, start = _facts(folder, card, "base", base), card.start if table.start is None else table.start
    if start > 0 and table.start is None:
        log.info("'%s' acts from t = %g on, where its data begin: [closure] start changes that", name, start)
    drawn = _draws(name, table, found)
    facts |= {} if drawn is None else {"draws": drawn.count, "seed": drawn.seed}
    common: dict[str, Any] = {"start": start, "facts": facts, "solver_step": card.solver_step, "draws": drawn}
    if isinstance(table, SurrogateTable):
        macro, trained = table.macro, card.rhythm.between
        between = trained if table.between is None else table.between
        if card.interval and (macro > 1 or abs(between - trained) > 0.01 * card.interval):
            log.warning("%s: trained for one step after each %g of the solver: this case differs", folder, trained)
        return StateSurrogate(name, update, base, span=card.step, macro=macro, between=between, **common)
    assert isinstance(table, CorrectorTable)
    if table.every is not None and table.interval is not None:
        raise CaseError("[closure] 'every' and 'interval' exclude each other: remove one")
    interval = table.interval or (0.0 if table.every else card.interval)
    if card.interval and interval and abs(interval / card.interval - 1) > 0.01:
        log.warning("%s: trained to correct every %g, this case has %g", folder, card.interval, interval)
    return StateCorrector(name, update, base, every=table.every, interval=interval, **common)


def _draws(name: str, table: CompanionTable, found: Artefact) -> Draws | None:
    """How the network is asked, if it draws."""
    if draws(found.network):
        return Draws(table.draws or 1, table.seed or 0)
    for key in ("draws", "seed"):
        if getattr(table, key) is not None:
            raise CaseError(f"[closure] {key}: the network of '{name}' draws nothing at random: remove it")
    return None


def _options(name: str, card: Card, options: dict[str, Any]) -> Any:
    """The table of the role that the card says."""
    model = TABLES[card.role]
    try:
        table = model.model_validate(options)
    except ValidationError as error:
        raise CaseError(f"[closure] {explain(error, model, options)}") from None
    if table.guard.residual is not None and not isinstance(table, SurrogateTable):
        raise CaseError(f"[closure.guard] residual is for surrogates, '{name}' is a {card.role}: remove it")
    return table


def _check_name(name: str, card: Card, folder: Path) -> None:
    """A role or architecture given as the name should be that of the network."""
    if shipped().get(name) == folder or name in (card.role, card.architecture):
        return
    what = f"a {card.role} of the architecture '{card.architecture}'"
    raise CaseError(f"[closure] name = '{name}', but {folder} holds {what}: use one of these as the name")


def _other(key: str, name: str, options: dict[str, Any], grid: Grid, nu: float, create: Create) -> Closure | None:
    """The closure that acts where the network does not: any that is not a network under guard itself."""
    if name in (*shipped(), *with_artefact()):
        raise CaseError(f"[closure] {key} = '{name}' is a network: use an algebraic model, such as 'wale', or 'none'")
    try:
        found = create(name, grid=grid, nu=nu, options=options)
        if isinstance(found, Corrector | Surrogate):
            raise CaseError("it changes the velocity between steps: use a subgrid model, such as 'wale', or 'none'")
        return found
    except ArtefactError:
        raise
    except CaseError as error:
        raise CaseError(f"[closure] {key} = '{name}': {str(error).removeprefix('[closure] ')}") from None


def _points(card: Card, grid: Grid) -> Points:
    """Points along the Fourier axes: those of the training data where the periods are the same."""
    if card.grid is None or grid.is_box:
        return OWN

    def trained(name: str, length: float, is_fourier: bool) -> int | None:
        line = (card.grid or {})[name]
        same = is_fourier and line["periodic"] and abs(line["length"] / length - 1) < SAME_LENGTH
        return len(line["points"]) if same else None

    x, y, z = (trained(n, axis.length, axis.is_fourier) for n, axis in zip("xyz", grid.axes, strict=True))
    return x, y, z


def _facts(folder: Path, card: Card, key: str, other: Closure | None) -> dict[str, Any]:
    """What the summary of a run says about its network and, if that comes from another package, its `key`."""
    about = getattr(other, "facts", {})
    return ({key: about} if about else {}) | {
        "artefact": str(folder),
        "role": card.role,
        "architecture": card.architecture,
        "package": card.package or OURS,
        "parameters": card.parameters,
        "weights_sha256": card.weights_sha256,
        "trained_on": card.trained_on,
    }
