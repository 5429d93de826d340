"""Closures by name: those of this package, and those that other packages declare as entry points.

Another package adds a closure with::

    [project.entry-points."solver.closures"]
    mine = "my_package.closure:Mine"

where ``Mine(*, grid, nu, **options)`` returns a `solver.flow.closure.Closure`. Its keyword arguments, with their types,
are the options of the ``[closure]`` table; an argument ``**options`` accepts any.

A trained network goes by the name of its folder in ``closures/pretrained``, or by its architecture (``fno``) or role
(``corrector``) with ``artefact = "FOLDER"``, a folder that `solver train` has made.
"""

from __future__ import annotations

import hashlib
import inspect
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from closures.operators.shipped import shipped, with_artefact
from solver.case.plugins import Registry, suggestion
from solver.errors import CaseError
from solver.flow.closure import Closure, ClosureFactory
from solver.grid.grid import Grid

NONE = "none"
BUILT_IN = {
    "smagorinsky": "closures.algebraic.smagorinsky:Smagorinsky",
    "dynamic_smagorinsky": "closures.algebraic.dynamic_smagorinsky:DynamicSmagorinsky",
    "wale": "closures.algebraic.wale:Wale",
    "vreman": "closures.algebraic.vreman:Vreman",
    "sigma": "closures.algebraic.sigma:Sigma",
    "lagrangian_dynamic_smagorinsky": "closures.algebraic.lagrangian:LagrangianDynamicSmagorinsky",
    "amd": "closures.algebraic.amd:Amd",
    "easm": "closures.algebraic.easm:Easm",
    "stabilised_mixed": "closures.algebraic.stabilised_mixed:StabilisedMixed",
    "two_part": "closures.algebraic.two_part:TwoPart",
}
ARTEFACT = "artefact"
GIVEN = ("grid", "nu", "create")  # what a factory gets from here, not from the case
CLOSURES = Registry("solver.closures", "[closure]", BUILT_IN, lambda: (NONE, *shipped(), *with_artefact()))


def names() -> list[str]:
    """Every name that `create` knows by itself, "none" first, then this package's, then other packages'."""
    return [NONE, *BUILT_IN, *shipped(), *CLOSURES.foreign()]


def create(name: str, *, grid: Grid, nu: float, options: dict[str, Any] | None = None) -> Closure | None:
    """The closure called `name`, or None for "none"; one of another package under `closures.registry`.

    Raises
    ------
    CaseError : unknown name, unknown option or value of the wrong type, each with the remedy; a name that two packages
        use; a closure of another package that cannot be imported.
    ClosureError : a closure of another package cannot be made, or is none.
    ArtefactError : a trained network is missing, damaged, or made for another grid.
    """
    options = options or {}
    CLOSURES.require(name, [*names(), *with_artefact()])
    if name == NONE:
        _check_keys(name, options, ())
        return None
    if name in shipped() or name in with_artefact():
        return _learned(name, grid, nu, options)
    made: ClosureFactory = CLOSURES.load(name)
    arguments = _validated(name, made, options)
    if "create" in inspect.signature(made).parameters:
        arguments["create"] = create  # the closure is made of others
    return made(grid=grid, nu=nu, **arguments) if name in BUILT_IN else _guest(name, made, grid, nu, arguments)


def parameters(made: ClosureFactory) -> dict[str, inspect.Parameter] | None:
    """The options that a factory takes, None if it takes any."""
    found = inspect.signature(made).parameters
    if any(p.kind is p.VAR_KEYWORD for p in found.values()):
        return None
    named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return {key: p for key, p in found.items() if p.kind in named and key not in GIVEN}


def _guest(name: str, made: ClosureFactory, grid: Grid, nu: float, options: dict[str, Any]) -> Closure:
    """A closure of another package; files among its options are named with their checksums in the provenance."""
    from closures.registry.guest_checks import Checks
    from closures.registry.guest_companions import admit

    origin = CLOSURES.origin(name)
    with Checks(origin).named("its constructor"):
        closure = made(grid=grid, nu=nu, **options)
    files = {key: Path(value) for key, value in options.items() if isinstance(value, str | Path) and str(value)}
    hashes = {f"{key}_sha256": digest for key, path in files.items() if (digest := _digest(path))}
    return admit(closure, origin, hashes)


def _digest(path: Path) -> str | None:
    """The checksum of a file, None where there is none."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:  # any other word
        return None


def _learned(name: str, grid: Grid, nu: float, options: dict[str, Any]) -> Closure:
    """A trained network, from this package or from the folder that the options name."""
    from closures.coupling.assemble import assemble

    folder = options.get(ARTEFACT, shipped().get(name))
    if folder is None:
        raise CaseError(
            f"[closure] '{name}' is not shipped with this version: give artefact = 'FOLDER', with a trained network"
        )
    if not isinstance(folder, str | Path):
        raise CaseError(f"[closure] artefact = {folder!r}: should be the folder of a trained network")
    own = {key: value for key, value in options.items() if key != ARTEFACT}
    return assemble(name, Path(folder), grid, nu, own, create)


def _validated(name: str, made: ClosureFactory, options: dict[str, Any]) -> dict[str, Any]:
    """The options with their types checked against the keyword arguments of the factory."""
    known = parameters(made)
    if known is None:
        return options
    _check_keys(name, options, known)
    hints = typing.get_type_hints(made.__init__ if inspect.isclass(made) else made, include_extras=True)
    return {key: _checked(key, value, hints.get(key, Any)) for key, value in options.items()}


def _check_keys(name: str, options: Iterable[str], known: Iterable[str]) -> None:
    known = list(known)
    for key in options:
        if key not in known:
            remedy = suggestion(key, known) or ("; it has " + ", ".join(known) if known else "; it has no options")
            raise CaseError(f"[closure] unknown option '{key}' of '{name}'{remedy}")


def _checked(key: str, value: Any, hint: Any) -> Any:
    try:
        return TypeAdapter(hint, config=ConfigDict(strict=True)).validate_python(value)
    except ValidationError as error:
        raise CaseError(f"[closure] {key} = {value!r}: {error.errors()[0]['msg']}") from error
