"""What `test_ranks.py` launches: a channel and a box on ranks whose fields are on a pretend GPU; one npz file."""

from __future__ import annotations

import sys

import numpy as np
import torch

from closures.algebraic.wale import Wale
from solver.discretisation.calculus import Operators
from solver.flow.forcing import MassFlux
from tests.gpu.pretend import counted, pretended
from tests.grids import GRIDS, operators, random_velocity, simulation

SEED, STEPS = 316_228, 3
FLOWS = ("channel", "box")


def stepped(op: Operators, start: list[torch.Tensor], grid: str) -> tuple[list[torch.Tensor], list[int]]:
    """The velocity after some steps, and of the last one what it asks of a device: copies there, reads, waits."""
    closure, forcing = Wale(grid=op.grid, nu=0.01), MassFlux(op, 1.0) if grid == "channel" else None
    u, v, w = start
    flow = simulation(op, (u, v, w), 0.01, None, forcing, closure)
    for _ in range(STEPS - 1):
        flow.step()
    with counted() as tally:
        flow.step()
    return list(flow.velocity.coefficients), list(tally.totals().values())


def main(path: str) -> None:
    results = {}
    for grid in FLOWS:
        here = operators(grid)
        start = [0.5 * f for f in random_velocity(here, SEED)]
        expected, _ = stepped(here, start, grid)
        with pretended() as device:
            there = Operators(GRIDS[grid], here.decomposition, device, here.dtype)
            found, asked = stepped(there, [f.to(device) for f in start], grid)
        far = max(float((f.raw - e).abs().max() / e.abs().max()) for f, e in zip(found, expected, strict=True))
        results[grid] = np.array([*asked, far])
        ranks = here.decomposition
    worst = {grid: ranks.max(torch.from_numpy(numbers)).numpy() for grid, numbers in results.items()}
    if ranks.is_root:
        np.savez(path, ranks=ranks.size, **worst)


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    main(sys.argv[1])
