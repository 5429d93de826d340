"""Scalars in a channel and a duct on the ranks of the world: ``python -m tests.scalars.run_scalars FILE``."""

from __future__ import annotations

import sys

import numpy as np
import torch

from solver.flow.flow import Flow
from solver.flow.forcing import MassFlux
from solver.flow.scalars import End, Scalar
from solver.flow.simulation import Simulation
from solver.flow.time_step import StepControl
from solver.observers.scalar_statistics import ScalarStatistics
from tests.grids import GRIDS, operators, random_velocity
from tests.scalars.test_transport import Eddies

SCALARS = [
    Scalar("heat", 0.7, ends={(1, 0): End(0.4), (1, 1): End(0.0)}, source_per_u=1.0),
    Scalar("salt", 0.5, ends={(1, 0): End(flux=0.1)}, source=-0.1),
]


def main(path: str) -> None:
    """Step each flow, write its scalars and a sample of their means."""
    found: dict[str, np.ndarray] = {}
    flows = (("channel", False, 0.0), ("channel", True, 0.6), ("duct", True, 0.0), ("box", False, 0.6))
    for name, implicit, frame in flows:
        op = operators(GRIDS[name])
        flow = Flow(op, 0.01, Eddies(), MassFlux(op, 1.0), implicit=implicit, scalars=SCALARS, frame=frame)
        state = flow.start(random_velocity(op, 41_113))
        state.scalars.update(heat=state.velocity.coefficients[0], salt=0.5 * state.velocity.coefficients[2])
        moved = Simulation(flow, state, StepControl(op, 1.0, dt=0.002, implicit=implicit))
        for _ in range(10):
            moved.step()
        key = f"{name}/{'implicit' if implicit else 'explicit'}"
        found |= {f"{key}/{n}": op.gather(f) for n, f in moved.state.scalars.items()}
        if name != "box":
            means = ScalarStatistics(op, SCALARS, 0.0, 1.0, 1).sample(moved)
            found[f"{key}/means"] = op.decomposition.gather_planes(means)
    if op.decomposition.is_root:
        arrays = {key: np.asarray(value) for key, value in found.items()}
        np.savez(path, ranks=np.array(op.decomposition.size), **arrays)


if __name__ == "__main__":
    with torch.no_grad():
        main(sys.argv[1])
