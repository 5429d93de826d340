"""Networks by name, with their arguments checked against the annotations of their constructors."""

from __future__ import annotations

import difflib
import inspect
import typing
from functools import cache
from importlib import import_module
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from torch import nn

from solver.errors import CaseError
from solver.explain import explain

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
    "dcdm": "closures.preconditioners.conjugate_net:ConjugateDirectionNet",
    "npsdo": "closures.preconditioners.geometry_net:GeometryNet",
}
ALL = BUILT_IN | DIRECTIONS


def names() -> list[str]:
    """Every name that `build` knows, but for the networks of the pressure equation."""
    return list(BUILT_IN)


def build(name: str, **arguments: Any) -> nn.Module:
    """The network called `name`; arguments that are not given keep their defaults.

    Raises
    ------
    CaseError : unknown name or argument, or a value of the wrong type or size, each with the remedy.
    """
    return _class(name)(**validated(name, arguments))


def kind(name: str) -> str:
    """What the network called `name` answers: ``state``, ``stress`` or ``direction``; raises as `build` does."""
    return str(_class(name).kind)  # type: ignore[attr-defined]


def validated(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """All arguments of `name`, checked, the defaults filled in; raises as `build` does."""
    model = _arguments(name)
    try:
        return dict(model.model_validate(arguments))
    except ValidationError as error:
        raise CaseError(f"[operator] '{name}': {explain(error, model, arguments)}") from None


def _class(name: str) -> type[nn.Module]:
    if name not in ALL:
        near = difflib.get_close_matches(name, ALL, n=1)
        remedy = f"did you mean '{near[0]}'?" if near else "one of " + ", ".join(ALL)
        raise CaseError(f"[operator] unknown name '{name}'; {remedy}")
    module, attribute = ALL[name].split(":")
    return getattr(import_module(module), attribute)


@cache
def _arguments(name: str) -> type[BaseModel]:
    """The keyword arguments of a constructor as a strict model."""
    constructor = _class(name).__init__
    hints = typing.get_type_hints(constructor, include_extras=True)
    parameters = [p for p in inspect.signature(constructor).parameters.values() if p.kind is p.KEYWORD_ONLY]
    fields: dict[str, Any] = {p.name: (hints[p.name], ... if p.default is p.empty else p.default) for p in parameters}
    config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
    return create_model(name, __config__=config, **fields)
