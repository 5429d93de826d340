"""Flows between modelled walls on the ranks of the world: ``python -m tests.wall_models.run_walls FILE``."""

from __future__ import annotations

import sys

import numpy as np
import torch

from closures.registry.wall_models import create
from solver.discretisation.gradient import VelocityGradient
from solver.flow.momentum import Momentum
from solver.flow.wall_stress import WallStress
from solver.grid.axis import FourierAxis
from solver.grid.grid import Grid
from tests.grids import GRIDS, operators, random_velocity, simulation, walls

NU, SEED, STEPS = 1e-3, 91_733, 5
FLOWS = {  # the height is in the planes of another rank than the wall
    "channel": (Grid(FourierAxis(8, 6.0), walls(10, stretching=0.0), FourierAxis(9, 3.0)), 0.75, "log_law"),
    "duct": (GRIDS["duct"], 0.6, "log_law"),
    "corner": (GRIDS["duct"], 0.25, "corner_law"),
}


def main(path: str) -> None:
    """Step each flow and write what it is then, and what its walls remember."""
    found: dict[str, np.ndarray] = {}
    for name, (grid, height, law) in FLOWS.items():
        op = operators(grid.with_modelled_walls())
        model = create(law, grid=op.grid, nu=NU, filter_time=1.0)
        momentum = Momentum(VelocityGradient(op), NU, wall_stress=WallStress(op, model, height, NU))
        flow = simulation(op, random_velocity(op, SEED), NU, 0.01, momentum=momentum)
        for _ in range(STEPS):
            flow.step()
        for i, c in enumerate(flow.velocity.coefficients):
            found[f"{name}/u{i}"] = op.gather(c)
        for key, value in flow.state.walls.items():
            whole = op.decomposition.gather_planes(value) if WallStress.in_slabs(key, value) else value
            found[f"{name}/{key}"] = whole
        found["ranks"] = np.array(op.decomposition.size)
    if op.decomposition.is_root:
        np.savez(path, **{key: np.asarray(value) for key, value in found.items()})


if __name__ == "__main__":
    with torch.no_grad():
        main(sys.argv[1])
