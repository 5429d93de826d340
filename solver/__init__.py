"""An MPI-parallel large-eddy-simulation driver that hosts learned closures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from solver.flow.simulation import Simulation
    from solver.run.open_run import open_run

__version__ = "0.1.0"
__all__ = ["__version__", "open_run", "simulation"]


def simulation(case: str | Path, *overrides: str, closure: str | None = None) -> Simulation:
    """A case as a simulation, at the beginning of its flow; collective under MPI.

    Parameters
    ----------
    case : a folder, a file, a run, or the name of a case that comes with the solver.
    overrides : as after ``--set`` on the command line: ``"grid.x.n=64"``.
    closure : its name, in place of that of the case.

    Returns
    -------
    Simulation : ready to ``step()``. Its ``state`` is a value; ``stepper(state)`` gives the next one, with gradients.

    Raises
    ------
    CaseError : no such case, or one that cannot be.

    Examples
    --------
    >>> flow = simulation("taylor_green", "grid.x.n=8", "grid.y.n=8", "grid.z.n=8")
    >>> flow.step()
    >>> tuple(flow.velocity.centred[0].shape), flow.step_count
    ((10, 10, 10), 1)
    """
    from solver.run.build import build, source_of

    return build(source_of(Path(case), overrides, closure))


def __getattr__(name: str) -> Any:
    """What is dear to import, when it is first asked for."""
    if name == "open_run":
        from solver.run.open_run import open_run

        return open_run
    raise AttributeError(f"module 'solver' has no attribute '{name}'")
