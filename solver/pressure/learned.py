"""What a learned method is to the solver: an approximate inverse, and a pressure solver that uses it.

`solver` imports nothing that is learned: whoever builds a case hands the factory in (`solver.run.build`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from solver.pressure.guess import ProjectedGuess
from solver.pressure.poisson import Poisson
from solver.pressure.report import PressureSolver, SolveReport


@dataclass(frozen=True)
class Learned:
    """One artefact on one problem.

    Parameters
    ----------
    name : of the method and the artefact, for reports.
    precondition : maps flat residuals to flat errors on every rank (collective); perhaps not linear.
    solver : makes the `PressureSolver` of this method for a tolerance.
    """

    name: str
    precondition: Callable[[Tensor], Tensor]
    solver: Callable[[float], PressureSolver]


class LearnedFactory(Protocol):
    """Finds an artefact by name and puts it on a problem."""

    def __call__(self, artefact: str, poisson: Poisson) -> Learned:
        """Build it.

        Raises
        ------
        SolverError : the artefact is missing, damaged, of another role, or cannot act on this grid.
        """
        ...


class LearnedPressure:
    """A learned pressure solver whose fallbacks are counted over all legs of a run; a `PressureSolver`.

    Parameters
    ----------
    solver : does the work, and counts the solves it gave up in ``interventions`` if it ever does.
    """

    name = "pressure_guard"  # of its entry in checkpoints

    def __init__(self, solver: PressureSolver) -> None:
        self.solver, self.before = solver, 0

    @property
    def interventions(self) -> int:
        """Solves that multigrid had to finish, those before a restart included."""
        return self.before + int(getattr(self.solver, "interventions", 0))

    def solve(self, rhs: Tensor, out: Tensor) -> SolveReport:
        """Overwrite `out` (the first guess) by the solution.

        Raises
        ------
        PressureSolveFailure : the solver failed.
        """
        return self.solver.solve(rhs, out)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"interventions": np.array(self.interventions)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on counting."""
        self.before = int(state["interventions"])


def guard_of(solver: PressureSolver) -> LearnedPressure | None:
    """The part of a pressure solver that counts fallbacks, if it has one."""
    inner = solver.solver if isinstance(solver, ProjectedGuess) else solver
    return inner if isinstance(inner, LearnedPressure) else None
