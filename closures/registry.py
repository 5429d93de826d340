"""Closures by name: those of this package, and those that other packages declare as entry points.

Another package adds a closure with::

    [project.entry-points."solver.closures"]
    mine = "my_package.closure:Mine"

where ``Mine(*, grid, nu, **options)`` returns a `solver.closure.Closure`. Its keyword arguments, with their types,
are the options of the ``[closure]`` table; an argument ``**options`` accepts any.

A trained network goes by the name of its folder in ``closures/pretrained``, or by its architecture (``fno``) or role
(``corrector``) with ``artefact = "FOLDER"``, a folder that `solver train` has made.
"""

from __future__ import annotations

import difflib
import inspect
import typing
from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from closures.shipped import shipped, with_artefact
from solver.closure import Closure, ClosureFactory
from solver.errors import CaseError, SolverError
from solver.grid import Grid

GROUP = "solver.closures"
NONE = "none"
BUILT_IN = {
    "smagorinsky": "closures.algebraic.smagorinsky:Smagorinsky",
    "dynamic_smagorinsky": "closures.algebraic.dynamic_smagorinsky:DynamicSmagorinsky",
    "wale": "closures.algebraic.wale:Wale",
    "vreman": "closures.algebraic.vreman:Vreman",
    "sigma": "closures.algebraic.sigma:Sigma",
}
ARTEFACT = "artefact"


def names() -> list[str]:
    """Every name that `create` knows by itself, "none" first, then this package's, then other packages'."""
    return [NONE, *BUILT_IN, *shipped(), *sorted(_foreign())]


def create(name: str, *, grid: Grid, nu: float, options: dict[str, Any] | None = None) -> Closure | None:
    """The closure called `name`, or None for "none".

    Raises
    ------
    CaseError : unknown name, unknown option or value of the wrong type, each with the remedy; or a closure of
        another package that cannot be imported.
    ArtefactError : a trained network is missing, damaged, or made for another grid.
    """
    options = options or {}
    if name == NONE:
        _check_keys(name, options, ())
        return None
    known = [*names(), *with_artefact()]
    if name not in known:
        remedy = _suggestion(name, known) or "; one of " + ", ".join(names())
        raise CaseError(f"[closure] unknown name '{name}'{remedy}")
    if name in shipped() or name in with_artefact():
        return _learned(name, grid, nu, options)
    factory = _load(name)
    return factory(grid=grid, nu=nu, **_validated(name, factory, options))


def describe() -> dict[str, str]:
    """One line for each name; a closure that cannot be imported says so instead of failing."""
    lines = {NONE: "no subgrid model"}
    for name in names()[1:]:
        try:
            lines[name] = _line(name)
        except SolverError as error:
            lines[name] = f"broken: {error}"
    return lines


def _line(name: str) -> str:
    if name in shipped():
        from closures.artefact import CARD, read_card

        return str(read_card(shipped()[name] / CARD)).splitlines()[0]
    return (inspect.getdoc(_load(name)) or "no description").splitlines()[0]


def _learned(name: str, grid: Grid, nu: float, options: dict[str, Any]) -> Closure:
    """A trained network, from this package or from the folder that the options name."""
    from closures.loop.assemble import assemble

    folder = options.get(ARTEFACT, shipped().get(name))
    if folder is None:
        raise CaseError(
            f"[closure] '{name}' is not shipped with this version: give artefact = 'FOLDER', with a trained network"
        )
    if not isinstance(folder, str | Path):
        raise CaseError(f"[closure] artefact = {folder!r}: should be the folder of a trained network")
    own = {key: value for key, value in options.items() if key != ARTEFACT}
    return assemble(name, Path(folder), grid, nu, own, create)


def _foreign() -> dict[str, EntryPoint]:
    """Entry points of other packages; a name of this package cannot be taken over."""
    own = (NONE, *BUILT_IN, *shipped(), *with_artefact())
    return {point.name: point for point in entry_points(group=GROUP) if point.name not in own}


def _load(name: str) -> ClosureFactory:
    if name in BUILT_IN:
        module, attribute = BUILT_IN[name].split(":")
        return getattr(import_module(module), attribute)
    point = _foreign()[name]
    try:
        return point.load()
    except Exception as error:  # whatever a foreign module does when imported, the message names it
        raise CaseError(
            f"[closure] '{name}' ({point.value}) cannot be imported: {type(error).__name__}: {error}"
        ) from error


def _validated(name: str, factory: ClosureFactory, options: dict[str, Any]) -> dict[str, Any]:
    """The options with their types checked against the keyword arguments of the factory."""
    parameters = inspect.signature(factory).parameters
    known = [key for key, p in parameters.items() if p.kind is p.KEYWORD_ONLY and key not in ("grid", "nu")]
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return options
    _check_keys(name, options, known)
    hints = typing.get_type_hints(factory.__init__ if inspect.isclass(factory) else factory, include_extras=True)
    return {key: _checked(key, value, hints.get(key, Any)) for key, value in options.items()}


def _check_keys(name: str, options: Iterable[str], known: Iterable[str]) -> None:
    known = list(known)
    for key in options:
        if key not in known:
            remedy = _suggestion(key, known) or ("; it has " + ", ".join(known) if known else "; it has no options")
            raise CaseError(f"[closure] unknown option '{key}' of '{name}'{remedy}")


def _checked(key: str, value: Any, hint: Any) -> Any:
    try:
        return TypeAdapter(hint, config=ConfigDict(strict=True)).validate_python(value)
    except ValidationError as error:
        raise CaseError(f"[closure] {key} = {value!r}: {error.errors()[0]['msg']}") from error


def _suggestion(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""
