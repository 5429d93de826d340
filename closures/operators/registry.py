"""Networks by name, with their arguments checked against the annotations of their constructors.

Another package adds one with::

    [project.entry-points."solver.operators"]
    mine = "my_package.nets:Mine"

a ``torch.nn.Module`` with the class attributes ``kind`` (``state`` or ``stress``), ``grid_free`` and ``symmetries``
(stress models also ``reach``), and annotated arguments that may all be given by keyword. `solver train` then knows it,
and an artefact names it: loading one imports no other module than those that are declared so.
"""

from __future__ import annotations

import difflib
import inspect
import typing
from functools import cache
from importlib import import_module
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic.errors import PydanticUserError
from torch import nn

from solver.case.explain import explain
from solver.case.plugins import Plugins
from solver.errors import CaseError, SolverError

BUILT_IN = {
    "fno": "closures.operators.fno:FNO",
    "ifno": "closures.operators.ifno:IFNO",
    "differential": "closures.operators.differential:DifferentialOperator",
    "ifactformer_m": "closures.operators.ifactformer:IFactFormerM",
    "ifactformer_o": "closures.operators.ifactformer:IFactFormerO",
    "tensor_basis": "closures.operators.tensor_basis:TensorBasis",
    "cnn": "closures.operators.cnn:SubgridCNN",
}
DIRECTIONS = {  # for the pressure equation
    "dcdm": "closures.pressure_nets.conjugate_net:ConjugateDirectionNet",
    "npsdo": "closures.pressure_nets.geometry_net:GeometryNet",
}
ALL = BUILT_IN | DIRECTIONS
FOREIGN = Plugins("solver.operators", "[operator]", lambda: ALL)
NEEDED = {"state": ("grid_free",), "stress": ("grid_free", "symmetries", "reach")}


def names() -> list[str]:
    """Every name that `build` knows, but for the networks of the pressure equation."""
    return [*BUILT_IN, *FOREIGN.names()]


def package(name: str) -> str | None:
    """Name and version of the package that the network called `name` comes from; None for those of this one."""
    return None if name in ALL else FOREIGN.origin(name).distribution


def build(name: str, **arguments: Any) -> nn.Module:
    """The network called `name`; arguments that are not given keep their defaults.

    Raises
    ------
    CaseError : unknown name or argument, or a value of the wrong type or size, each with the remedy; a network of
        another package that cannot be made, or lacks what it should say of itself.
    """
    checked = validated(name, arguments)
    return _class(name)(**checked) if name in ALL else _foreign(name, checked)


def _foreign(name: str, arguments: dict[str, Any]) -> nn.Module:
    """A network of another package; its failures are named as its own."""
    origin = FOREIGN.origin(name)
    try:
        network = _class(name)(**arguments)
    except SolverError:
        raise
    except Exception as error:  # a constructor fails as it likes
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise CaseError(f"[operator] {origin} cannot be made: {reason}") from error
    for attribute in NEEDED[str(network.kind)]:
        if not hasattr(network, attribute):
            raise CaseError(f"[operator] {origin} lacks the attribute '{attribute}': see docs/add_a_closure.md")
    return network


def kind(name: str) -> str:
    """What the network called `name` answers: ``state``, ``stress`` or ``direction``; raises as `build` does."""
    return str(_class(name).kind)  # type: ignore[attr-defined]


def validated(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """All arguments of `name`, checked, the defaults filled in; raises as `build` does."""
    model = _model(name, _class(name))  # type: ignore[arg-type]  # classes can be hashed
    try:
        return dict(model.model_validate(arguments))
    except ValidationError as error:
        raise CaseError(f"[operator] '{name}': {explain(error, model, arguments)}") from None


def _class(name: str) -> type[nn.Module]:
    FOREIGN.refuse_clash(name)
    if name in FOREIGN.names():
        found, origin = FOREIGN.load(name), FOREIGN.origin(name)
        if not (inspect.isclass(found) and issubclass(found, nn.Module)):
            raise CaseError(f"[operator] {origin} is no class derived from torch.nn.Module")
        if getattr(found, "kind", None) not in NEEDED:
            raise CaseError(f"[operator] {origin}: its class attribute 'kind' should be one of {', '.join(NEEDED)}")
        return found
    if name not in ALL:
        known = [*ALL, *FOREIGN.names()]
        near = difflib.get_close_matches(name, known, n=1)
        remedy = f"did you mean '{near[0]}'?" if near else "one of " + ", ".join(known)
        raise CaseError(f"[operator] unknown name '{name}'; {remedy}")
    module, attribute = ALL[name].split(":")
    return getattr(import_module(module), attribute)


@cache
def _model(name: str, made: type[nn.Module]) -> type[BaseModel]:
    """The keyword arguments of a constructor as a strict model."""
    constructor = made.__init__
    hints = typing.get_type_hints(constructor, include_extras=True)
    named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [p for p in inspect.signature(made).parameters.values() if p.kind in named]
    if missing := [p.name for p in parameters if p.name not in hints]:
        raise CaseError(f"[operator] '{name}': the argument '{missing[0]}' of its constructor needs an annotation")
    fields: dict[str, Any] = {p.name: (hints[p.name], ... if p.default is p.empty else p.default) for p in parameters}
    config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
    try:
        return create_model(name, __config__=config, **fields)
    except PydanticUserError as error:
        reason = str(error).partition(chr(10))[0]
        raise CaseError(f"[operator] '{name}': an argument cannot be checked: {reason}") from None
