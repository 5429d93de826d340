"""Errors of frames against labels by name: ours, and those that other packages declare.

Another package adds one with::

    [project.entry-points."solver.losses"]
    mine = "my_package.losses:mine"

where ``mine(prediction, target, domain)`` maps velocities (batch, 3, nx, ny, nz) to one error a sample, (batch,);
``[loss] kind = "mine"`` of a training recipe names it.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from closures.losses.relative_l2 import relative_l2
from closures.operators.domain import Domain
from solver.case.plugins import Plugins
from solver.errors import CaseError, SolverError

Error = Callable[[Tensor, Tensor, Domain], Tensor]
KINDS = ("relative_l2", "sobolev", "projected_l2", "les_residual", "hybrid")
FOREIGN = Plugins("solver.losses", "[loss]", lambda: KINDS)


def known(kind: str) -> str:
    """`kind` if it is one of ours or of another package; raises ValueError with the names there are."""
    FOREIGN.refuse_clash(kind)
    if kind not in KINDS and kind not in FOREIGN.names():
        raise ValueError(f"unknown loss '{kind}'; one of {', '.join([*KINDS, *FOREIGN.names()])}")
    return kind


def error_of(kind: str) -> Error:
    """The error of another package called `kind`, checked at every call; else the relative L2 norm."""
    if kind in KINDS:
        return relative_l2
    loss, origin = FOREIGN.load(kind), FOREIGN.origin(kind)

    def checked(prediction: Tensor, target: Tensor, domain: Domain) -> Tensor:
        try:
            found = loss(prediction, target, domain)
        except SolverError:
            raise
        except Exception as error:  # a loss fails as it likes
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            raise CaseError(f"[loss] {origin} failed: {reason}") from error
        if not isinstance(found, Tensor) or found.shape != prediction.shape[:1]:
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise CaseError(
                f"[loss] {origin} gives {shape}, expected one number a sample, {tuple(prediction.shape[:1])}"
            )
        return found

    return checked
