"""Means of scalars over the homogeneous directions, and the tables that they become."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from solver.analysis.batch_means import Array, BatchMeans
from solver.analysis.scalar_flow import ERRORS, PROFILE, ROWS, SCALARS, ScalarFlow, ScalarReference, scalar_flows
from solver.case.case import Case
from solver.discretisation.calculus import Operators
from solver.discretisation.staggered import above
from solver.files.folder import label, write_hdf5, write_table
from solver.flow.scalars import Scalar
from solver.flow.simulation import Simulation
from solver.observers.time_average import TimeAverage


class ScalarStatistics(TimeAverage):
    """Time means over x and z (x alone in a duct), as functions of y (and z): of u, then of each scalar the `ROWS`.

    ``flux_y`` is what passes through the upper y faces of the cells but for molecular diffusion: resolved and subgrid.
    """

    name = "scalar_statistics"

    def __init__(
        self, operators: Operators, scalars: Sequence[Scalar], start: float, width: float, every_steps: int
    ) -> None:
        super().__init__(operators, start, width, every_steps)
        self.scalars, self.names = scalars, [scalar.name for scalar in scalars]
        self.dims = tuple(d for d, axis in ((-3, 0), (-1, 2)) if operators.grid.axes[axis].is_fourier)

    def sample(self, simulation: Simulation) -> Tensor:
        """Of the present flow, (1 + 5 scalars, local ny, nz or 1)."""
        velocity, term, carried = simulation.velocity, simulation.present_term(), simulation.flow.scalars
        u, v, _ = velocity.centred
        fields = [u]
        for name in self.names:
            transport, f = carried.transports[name], simulation.state.scalars[name]
            s = self.operators.to_physical(f)
            fluxes = transport.fluxes(velocity, transport.padded(f), term, carried.closure)
            fields += [s, s * s, u * s, v * s, above(fluxes[1], 1)]
        means = [f.mean(self.dims, keepdim=True) for f in fields]
        return torch.stack([m.reshape(m.shape[-2:]) for m in means])

    def restore(self, state: dict[str, Array]) -> None:
        """Continue from `state`, unless it is of other scalars."""
        if "sums" not in state or state["sums"].shape[1] == 1 + len(ROWS) * len(self.names):
            super().restore(state)


def write_scalars(folder: Path, case: Case, origin: Path, hook: ScalarStatistics, means: BatchMeans) -> dict[str, Any]:
    """``scalars.h5``, a ``scalar_NAME.csv`` for each wall that sees a flow of its own, and what the summary says.

    Root only; `origin` has the files of the case.
    """
    _write_means(folder, hook, means)
    found: dict[str, Any] = {}
    for number, table in enumerate(case.scalars):
        scalar = hook.scalars[number]
        views = scalar_flows(hook.operators.grid, case.flow.nu, scalar, number)
        reference = ScalarReference.of(origin, table)
        own = {side: _write_table(folder, table.name, side, view, means, reference) for side, view in views.items()}
        if own:
            found[table.name] = own.get("", own)
    return {"scalars": found} if found else {}


def _write_table(
    folder: Path, name: str, side: str, view: ScalarFlow, means: BatchMeans, reference: ScalarReference | None
) -> dict[str, Any]:
    values, widths = means.estimate(view.scalars)
    rows, bands = means.estimate(view.profiles)
    columns: dict[str, Any] = {"y": view.flow.distance / view.flow.half_height}
    columns["y_plus"] = view.flow.distance * values[0] / view.flow.nu
    for i, quantity in enumerate(PROFILE):
        columns |= {quantity: rows[i], f"{quantity}_ci95": bands[i]}
    write_table(folder / f"scalar_{name}{f'_{side}' if side else ''}.csv", columns)
    named = [dict(zip(SCALARS, map(float, numbers), strict=True)) for numbers in (values, widths)]
    found: dict[str, Any] = named[0] | {"ci95": named[1]}
    if reference is not None:
        numbers, around = means.estimate(partial(view.errors, reference))
        found["errors"] = dict(zip(ERRORS, map(float, numbers), strict=True))
        found["errors"]["ci95"] = dict(zip(ERRORS, map(float, around), strict=True))
        found["reference_nusselt"] = reference.nusselt(view.scalar.prandtl)
    return found


def _write_means(folder: Path, hook: ScalarStatistics, means: BatchMeans) -> None:
    grid, planes = hook.operators.grid, means.mean.shape[-1]
    names = ["u", *(f"{name}/{row}" for name in hook.names for row in ROWS)]
    scales: dict[str, Any] = {
        "y": grid.y.centres,
        "z": grid.z.centres if planes > 1 else grid.z.centres.mean(keepdims=True),
        "batch": means.start + means.width * (np.arange(len(means.weights)) + 0.5),
        "quantity": np.array(names, h5py.string_dtype()),
    }

    def fill(file: h5py.File) -> None:
        for name, values in scales.items():
            file[name] = values
            file[name].make_scale(name)
        for name, values in zip(names, means.mean, strict=True):
            label(file, name, values, ("y", "z"))
        label(file, "batches/weights", means.weights, ("batch",))
        assert means.sums is not None
        label(file, "batches/sums", means.sums, ("batch", "quantity", "y", "z"))
        file.attrs.update(names=names, averaging_time=means.duration)

    write_hdf5(folder / "scalars.h5", fill)
