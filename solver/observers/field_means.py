"""Means in time at every cell, for flows without a homogeneous direction: around solids, in open and walled boxes."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from solver.discretisation.calculus import Operators
from solver.files.folder import name_dimensions
from solver.files.shares import Share, write_shared
from solver.flow.simulation import Simulation
from solver.observers.time_average import TimeAverage
from solver.solids.mask import Solids

VELOCITY = ("u", "v", "w")
PRODUCTS = ("uu", "vv", "ww", "uv", "uw", "vw")
NAMES = (*VELOCITY, "p", *PRODUCTS)


class FieldMeans(TimeAverage):
    """Time means of velocity, pressure and the products of velocities at cell centres, (len(NAMES), nx, ny, nz).

    One batch from `start` on: batches of whole fields would not fit, so there are no intervals of confidence.

    Parameters
    ----------
    operators : of the grid.
    solids : where nothing flows; None for none.
    start, every_steps : see `TimeAverage`.
    """

    name = "field_means"

    def __init__(self, operators: Operators, solids: Solids | None, start: float, every_steps: int) -> None:
        super().__init__(operators, start, np.inf, every_steps)
        self.solids = solids or Solids.none(operators.grid)

    def sample(self, simulation: Simulation) -> Tensor:
        """Of the present flow."""
        u, v, w = simulation.velocity.centred
        p = simulation.pressure()
        fields = (u, v, w, p, u * u, v * v, w * w, u * v, u * w, v * w)
        return torch.stack([f.reshape(f.shape[-3:]) for f in fields])

    def write(self, folder: Path, nu: float) -> None:
        """``statistics.h5``: the means, ``u_rms`` .. and the mask of the solids, all (x, y, z); collective."""
        op, found = self.operators, dict(zip(NAMES, self.means.mean, strict=True))
        for name in VELOCITY:
            found[f"{name}_rms"] = np.sqrt(np.maximum(found[2 * name] - found[name] ** 2, 0.0))
        found["solid"] = self.solids.solid[:, op.decomposition.planes].astype(np.uint8)

        def fill(file: h5py.File) -> None:
            for name, axis in zip("xyz", op.grid.axes, strict=True):
                file[name] = axis.centres
                file[name].make_scale(name)
            for name in found:
                name_dimensions(file, file[name], "xyz")
            file.attrs.update(names=list(found), averaging_time=self.means.duration, nu=nu)

        shares = {name: Share(array, 1) for name, array in found.items()}
        write_shared(folder / "statistics.h5", op.decomposition.comm, shares, fill)
