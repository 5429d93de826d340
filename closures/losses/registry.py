"""Errors of frames against labels by name: ours, and those that other packages declare.

Another package adds one with::

    [project.entry-points."solver.losses"]
    mine = "my_package.losses:mine"

where ``mine(prediction, target, domain, **options)`` maps velocities (batch, 3, nx, ny, nz) to one error a sample,
(batch,). A training recipe names it: ``[loss] kind = "mine"``, or, behind the projection of a flow, ``norm = "mine"``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from closures.operators.domain import Domain
from solver.case.plugins import Registry
from solver.errors import CaseError

Error = Callable[[Tensor, Tensor, Domain], Tensor]
BUILT_IN = {
    "relative_l2": "closures.losses.relative_l2:relative_l2",
    "plane": "closures.losses.relative_l2:plane_error",
    "sobolev": "closures.losses.sobolev:sobolev_error",
}
WITH_CASE = ("projected_l2", "les_residual", "hybrid")  # what holds in a flow, see `closures.training.tables.LossTable`
LOSSES = Registry("solver.losses", "[loss]", BUILT_IN, lambda: WITH_CASE)
GIVEN = 3  # arguments of an error that are not options: prediction, target, domain


def known(kind: str) -> str:
    """`kind` if a recipe can have it; raises ValueError with the names there are."""
    LOSSES.refuse_clash(kind)
    names = [*LOSSES.names(), *WITH_CASE]
    if kind not in names:
        raise ValueError(f"unknown loss '{kind}'; one of {', '.join(names)}")
    return kind


def error_of(name: str, options: Mapping[str, Any] | None = None) -> Error:
    """The error called `name` with its options; what another package answers is checked at every call.

    Raises
    ------
    CaseError : an option is unknown or wrong; in a call, what is not one number a sample.
    """
    LOSSES.require(name)
    checked, error = LOSSES.arguments(name, options or {}, skip=GIVEN), LOSSES.load(name)

    def measure(prediction: Tensor, target: Tensor, domain: Domain) -> Tensor:
        with LOSSES.blaming(name):
            found = error(prediction, target, domain, **checked)
        if not isinstance(found, Tensor) or found.shape != prediction.shape[:1]:
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            expected = f"expected one number a sample, {tuple(prediction.shape[:1])}"
            raise CaseError(f"[loss] {LOSSES.origin(name)} gives {shape}, {expected}")
        return found

    return measure
