"""What a pressure solve tells, and how it fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from solver.errors import PressureSolveError

DRIFT = 10.0  # how far the true residual may lie above the tolerance that the updated one has met
DRIFTED = " of a recursive residual that left the true one"


@dataclass(frozen=True)
class SolveReport:
    """One solve.

    Parameters
    ----------
    converged, reason : whether the tolerance was met, and the name of what ended the iteration.
    iterations : applications of the preconditioner.
    residual : of the solution that is returned, relative to the source, both multiplied by the cell volumes:
        ``|b - A phi| / |b|``.
    seconds : wall clock.
    """

    converged: bool
    reason: str
    iterations: int
    residual: float
    seconds: float


class PressureSolver(Protocol):
    """Solves ``div grad phi = rhs`` to its own tolerance."""

    def solve(self, rhs: Tensor, out: Tensor) -> SolveReport:
        """Overwrite `out` (the first guess) by the solution.

        Raises
        ------
        PressureSolveFailure : the tolerance was not met.
        """
        ...


class PressureSolveFailure(PressureSolveError):
    """A solve that ended without meeting its tolerance; `report` says how."""

    def __init__(self, solver: str, report: SolveReport) -> None:
        super().__init__(
            f"pressure solver {solver!r}: {report.reason} after {report.iterations} iterations, "
            f"relative residual {report.residual:.1e}"
        )
        self.report = report


def checked(solver: str, report: SolveReport) -> SolveReport:
    """The report of a solve that converged.

    Raises
    ------
    PressureSolveFailure : it did not.
    """
    if not report.converged:
        raise PressureSolveFailure(solver, report)
    return report
