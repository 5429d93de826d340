"""Means in time at every cell, for flows without a homogeneous direction: around solids, in open and walled boxes."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from solver.analysis.batch_means import BatchMeans
from solver.discretisation.calculus import Operators
from solver.files.folder import label, write_hdf5
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

    def write(self, folder: Path, means: BatchMeans, nu: float) -> None:
        """``statistics.h5`` (root only): the means, ``u_rms`` .. and the mask of the solids, all (x, y, z)."""
        found = dict(zip(NAMES, means.mean, strict=True))
        for name in VELOCITY:
            found[f"{name}_rms"] = np.sqrt(np.maximum(found[2 * name] - found[name] ** 2, 0.0))
        arrays = found | {"solid": self.solids.solid.astype(np.uint8)}

        def fill(file: h5py.File) -> None:
            for name, axis in zip("xyz", self.operators.grid.axes, strict=True):
                file[name] = axis.centres
                file[name].make_scale(name)
            for name, array in arrays.items():
                label(file, name, array, "xyz", compression="gzip", compression_opts=1, shuffle=True)
            file.attrs.update(names=list(arrays), averaging_time=means.duration, nu=nu)

        write_hdf5(folder / "statistics.h5", fill)
