"""Networks by name, with their arguments checked against the annotations of their constructors.

Another package adds one with::

    [project.entry-points."solver.operators"]
    mine = "my_package.nets:Mine"

a ``torch.nn.Module`` with the class attributes ``kind`` (``state`` or ``stress``), ``grid_free`` and ``symmetries``
(stress models also ``reach``, which others may have), and annotated arguments that may all be given by keyword. `solver
train` then knows it, and an artefact names it: loading one imports no other module than those that are declared so, and
those of installed packages that `closures.operators.module` is asked for.
"""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from solver.case.plugins import Registry
from solver.errors import CaseError

BUILT_IN = {
    "fno": "closures.operators.fno:FNO",
    "ifno": "closures.operators.ifno:IFNO",
    "differential": "closures.operators.differential:DifferentialOperator",
    "mgno": "closures.operators.mgno:MgNO",
    "unet": "closures.operators.unet:UNet",
    "ifactformer_m": "closures.operators.ifactformer:IFactFormerM",
    "ifactformer_o": "closures.operators.ifactformer:IFactFormerO",
    "tensor_basis": "closures.operators.tensor_basis:TensorBasis",
    "split_stress": "closures.operators.split:SplitStress",
    "cnn": "closures.operators.cnn:SubgridCNN",
    "module": "closures.operators.module:InstalledModule",
}
DIRECTIONS = {  # for the pressure equation
    "dcdm": "closures.pressure_nets.conjugate_net:ConjugateDirectionNet",
    "npsdo": "closures.pressure_nets.geometry_net:GeometryNet",
}
WALLS = {  # for wall models
    "wall_correction": "closures.operators.wall_correction:WallCorrection",
}
OPERATORS = Registry("solver.operators", "[operator]", BUILT_IN | DIRECTIONS | WALLS)
NEEDED = {"state": ("grid_free",), "stress": ("grid_free", "symmetries", "reach")}


def names() -> list[str]:
    """Every name that `build` knows, but for the networks of the pressure equation and of walls."""
    return [*BUILT_IN, *OPERATORS.foreign()]


def package(name: str) -> str | None:
    """Name and version of the package that the network called `name` comes from; None for those of this one."""
    return OPERATORS.package(name)


def build(name: str, **arguments: Any) -> nn.Module:
    """The network called `name`; arguments that are not given keep their defaults.

    Raises
    ------
    CaseError : unknown name or argument, or a value of the wrong type or size, each with the remedy; a network of
        another package that cannot be made, or lacks what it should say of itself.

    Examples
    --------
    >>> network = build("cnn", width=4)
    >>> network.kind, network.reach
    ('stress', 2)
    """
    _class(name)
    network: nn.Module = OPERATORS.make(name, arguments)
    for attribute in NEEDED.get(str(network.kind), ()):
        if not hasattr(network, attribute):
            missing = f"lacks the attribute '{attribute}': see docs/add_an_operator.md"
            raise CaseError(f"[operator] {OPERATORS.origin(name)} {missing}")
    reach = getattr(network, "reach", "global")
    if reach != "global" and not (isinstance(reach, int) and reach >= 0):
        planes = f"reach = {reach!r} should be a number of planes or 'global': see docs/add_an_operator.md"
        raise CaseError(f"[operator] {OPERATORS.origin(name)}: {planes}")
    return network


def kind(name: str) -> str:
    """What the network called `name` answers: ``state``, ``stress``, ``direction`` or ``wall``."""
    return str(_class(name).kind)  # type: ignore[attr-defined]  # see `NEEDED`


def validated(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """All arguments of `name`, checked, the defaults filled in; raises as `build` does."""
    _class(name)
    return OPERATORS.arguments(name, arguments)


def _class(name: str) -> type[nn.Module]:
    OPERATORS.require(name)
    found = OPERATORS.load(name)
    if OPERATORS.package(name) is None:
        own: type[nn.Module] = found
        return own
    if not (inspect.isclass(found) and issubclass(found, nn.Module)):
        raise CaseError(f"[operator] {OPERATORS.origin(name)} is no class derived from torch.nn.Module")
    if getattr(found, "kind", None) not in NEEDED:
        allowed = f"its class attribute 'kind' should be one of {', '.join(NEEDED)}"
        raise CaseError(f"[operator] {OPERATORS.origin(name)}: {allowed}")
    return found
