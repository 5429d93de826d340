"""What `test_columns.py` launches: the pressure on grids with cells along y, by slabs and on one rank; one npz file."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from mpi4py import MPI

from solver.grid.axis import FourierAxis
from solver.grid.grid import Grid
from solver.pressure.direct import DirectPressure
from tests.grids import GRIDS, operators, random_components, random_scalar, walls

SEED = 602_214
THIN = {  # one plane a rank, on five
    "thin_channel": Grid(FourierAxis(7, 6.0), walls(5), FourierAxis(8, 3.0)),
    "few_columns": Grid(FourierAxis(1, 1.0), walls(5), FourierAxis(3, 1.0)),  # fewer than ranks
}
CELLS = {name: grid for name, grid in GRIDS.items() if not grid.y.is_fourier and grid.shape[1] >= 5} | THIN


def solved(grid: Grid, comm: MPI.Intracomm, share: float) -> dict[str, np.ndarray]:
    """What a rank of `comm` finds: a potential, a projected velocity, its divergence, and a sum; whole on the root."""
    op = operators(grid, comm=comm)
    direct, velocity = DirectPressure(op), random_components(op, SEED)
    potential = direct.solve(random_scalar(op, SEED))  # of a source with a mean
    known, beyond, total = direct.of_velocity(op, velocity, op.tensor(share) if direct.carries else None)
    result = op.subtract_gradient(velocity, known, beyond)
    divergence = op.decomposition.max(op.divergence(result).abs().max())
    found = {"potential": op.gather(potential), "divergence": divergence.numpy()}
    found |= {f"u{i}": op.gather(f) for i, f in enumerate(result)}
    return found | {"total": np.array(share if total is None else float(total))}


def main(path: str) -> None:
    world, found = MPI.COMM_WORLD, {}
    for name, grid in CELLS.items():
        for kind, comm in (("slabs", world), ("whole", MPI.COMM_SELF)):
            found |= {f"{name}/{kind}/{key}": value for key, value in solved(grid, comm, comm.rank + 1.0).items()}
    if world.rank == 0:
        np.savez(Path(path), ranks=world.size, **found)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    main(sys.argv[1])
