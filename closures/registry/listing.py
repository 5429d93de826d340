"""What `solver closures` shows: every name with where it comes from, what it is, and the options it takes."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from closures.algebraic.wall_friction import LAWS
from closures.operators.shipped import shipped, wall_models
from closures.registry import registry
from closures.registry.wall_models import WALL_MODELS
from solver.case.plugins import OURS, Registry
from solver.errors import SolverError


@dataclass(frozen=True)
class Listed:
    """One closure: the package it comes from, a line about it, and its options with their defaults."""

    origin: str
    summary: str
    options: tuple[str, ...] = ()


def describe() -> dict[str, Listed]:
    """Every closure by name; one that cannot be used says why instead of failing."""
    found = {registry.NONE: Listed(OURS, "no subgrid model")}
    for name in registry.names()[1:]:
        try:
            found[name] = _trained(name) if name in shipped() else _listed(name)
        except SolverError as error:
            found[name] = Listed(_origin(name), f"broken: {error}")
    clashes = {name: Listed("refused", why) for name, why in registry.CLOSURES.clashes().items()}
    return {name: clashes.pop(name, entry) for name, entry in found.items()} | clashes


def describe_wall_models() -> dict[str, Listed]:
    """Every wall model by name, likewise."""
    found = {name: _law(name) for name in LAWS}
    for name, folder in wall_models().items():
        found[name] = Listed(OURS, _card_of(folder), ("artefact",))
    for name in WALL_MODELS.foreign():
        try:
            found[name] = _made(WALL_MODELS, name)
        except SolverError as error:
            found[name] = Listed(WALL_MODELS.package(name) or OURS, f"broken: {error}")
    return found | {name: Listed("refused", why) for name, why in WALL_MODELS.clashes().items()}


def _card_of(folder: Path) -> str:
    from closures.operators.artefact import CARD, read_card

    try:
        return str(read_card(folder / CARD))
    except SolverError as error:
        return f"broken: {error}"


def _law(name: str) -> Listed:
    options = tuple(_default(key, field.default) for key, field in LAWS[name].model_fields.items())
    return Listed(OURS, (inspect.getdoc(LAWS[name]) or "").splitlines()[0], options)


def _origin(name: str) -> str:
    return registry.CLOSURES.package(name) or OURS


def _listed(name: str) -> Listed:
    return _made(registry.CLOSURES, name)


def _made(known: Registry, name: str) -> Listed:
    made = known.load(name)
    taken = registry.parameters(made)
    options = ("any",) if taken is None else tuple(_option(key, p) for key, p in taken.items())
    return Listed(known.package(name) or OURS, (inspect.getdoc(made) or "no description").splitlines()[0], options)


def _trained(name: str) -> Listed:
    from closures.coupling.tables import TABLES
    from closures.operators.artefact import CARD, read_card

    card = read_card(shipped()[name] / CARD)
    fields = TABLES[card.role].model_fields.items()
    options = tuple(_default(key, field.get_default(call_default_factory=True)) for key, field in fields)
    return Listed(OURS, str(card).splitlines()[0], options)


def _option(key: str, parameter: inspect.Parameter) -> str:
    return key if parameter.default is parameter.empty else _default(key, parameter.default)


def _default(key: str, value: Any) -> str:
    """An option as it would stand in a case, alone where its default is nothing, or a table."""
    plain = isinstance(value, bool | int | float | str) and value != ""
    return f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}" if plain else key
