"""The flows of a recipe by number: seed and parameters of each are functions of its number alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from closures.coupling.frames import Frames
from closures.training.online.table import OnlineTable
from solver.case.case import load_case
from solver.errors import Diverged
from solver.flow.simulation import Simulation
from solver.observers.series import fluctuation_energy
from solver.parallel import ranks
from solver.run import build

TEACHING, HELD_OUT = 1, 2  # kinds of flows, drawn apart


class Flows:
    """The flows of a recipe by number, on this rank alone."""

    def __init__(self, table: OnlineTable, device: str) -> None:
        self.table, self.device = table, device

    def source(self, kind: int, number: int, attempt: int = 0) -> build.Source:
        """The case of flow `number`: its seed and its parameters are functions of these arguments and of the recipe.

        Raises
        ------
        CaseError : no such case, or a key of `ranges` that it does not have.
        """
        table, known = self.table, (f"time.dt={self.table.interval / self.table.steps!r}", f"run.device={self.device}")
        case, _ = load_case(Path(table.case), (*table.overrides, *known))
        random = np.random.default_rng([case.initial.seed, kind, number, attempt])
        seed = f"initial.seed={int(random.integers(2**31))}"
        random = np.random.default_rng([case.initial.seed, kind, number])  # another attempt, the same parameters
        drawn = [f"{key}={float(random.uniform(*table.ranges[key]))!r}" for key in sorted(table.ranges)]
        case, folder = load_case(Path(table.case), (*table.overrides, *known, *drawn, seed))
        return build.Source(case, folder, folder.name)

    def begin(self, kind: int, number: int, attempt: int = 0) -> Simulation:
        """That flow at its first instant."""
        return build.build(self.source(kind, number, attempt), comm=ranks.alone())

    def spin_up(self, simulation: Simulation, time: float) -> None:
        """Go on with a flow for a time, in whole intervals; raises Diverged if it is lost on the way."""
        for _ in range(round(time / self.table.interval)):
            self.advance(simulation)

    def advance(self, simulation: Simulation) -> None:
        """An interval of the teacher; raises Diverged if the flow is lost."""
        for _ in range(self.table.steps):
            simulation.step()
        energy = fluctuation_energy(simulation.operators, simulation.velocity.coefficients)
        if not bool(torch.isfinite(energy)):
            raise Diverged(f"t = {simulation.t:.4g}: the velocity is not finite")

    def window(self, simulation: Simulation, frames: Frames, steps: int) -> Tensor:
        """The present frame and those of the next `steps` intervals, (steps + 1, 3, nx, ny, nz)."""
        found = [frames.centred(simulation.velocity.coefficients)]
        for _ in range(steps):
            self.advance(simulation)
            found.append(frames.centred(simulation.velocity.coefficients))
        return torch.stack(found)
