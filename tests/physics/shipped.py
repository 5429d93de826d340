"""The shipped cases, coarsened by overrides and run in this process; not a test itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from solver.case.case import load_case
from solver.discretisation.shells import shell_energies
from solver.files.reference_files import read_reference
from solver.flow.simulation import Simulation
from solver.run.build import Source, build

CASES = Path(__file__).parents[2] / "cases"


def flow(name: str, *overrides: str) -> Simulation:
    """The flow of `cases/<name>` with overrides as on the command line."""
    case, folder = load_case(CASES / name, overrides)
    return build(Source(case, folder, name))


def cube(n: int, dealias: str | None = None) -> list[str]:
    """Overrides: n points in every direction."""
    kinds = [f'grid.{axis}.dealias="{dealias}"' for axis in "xyz"] if dealias else []
    return [f"grid.{axis}.n={n}" for axis in "xyz"] + kinds


def advance(simulation: Simulation, end: float) -> Simulation:
    """Step until t = end exactly."""
    while simulation.t < end * (1 - 1e-12):
        simulation.step(longest=end - simulation.t)
    return simulation


def table(case: str, file: str) -> dict[str, np.ndarray]:
    """A reference table of a case."""
    return read_reference(CASES / case / "reference" / file)


def shells(simulation: Simulation) -> np.ndarray:
    """Kinetic energy by integer wavenumber shell."""
    return shell_energies(simulation.operators, simulation.velocity.coefficients)
