"""What the averages of a run become: statistics.h5, profiles, budget, spectra, centre lines, errors.

Everything here runs on the root alone, except that `write_centrelines` is collective. Each function gives what the
summary says of it.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from solver.axis import FiniteVolumeAxis
from solver.case import Case, ReferenceTable
from solver.channel import BUDGET, ERRORS, PROFILE, ChannelProfiles, errors, report
from solver.grid import Grid
from solver.hooks.batch_means import BatchMeans
from solver.hooks.spectra import PlaneSpectra
from solver.hooks.statistics import INDEX, NAMES
from solver.reference import ChannelReference
from solver.rundir import label, write_hdf5, write_table
from solver.simulation import Simulation

SCALARS = ("u_tau", "bulk_velocity", "re_tau", "re_bulk", "c_f", "total_stress_residual")
SPECTRA_AT = (0.03, 0.08, 0.17, 0.56, 1.0)  # of the half height, where a case names no heights


def write_statistics(folder: Path, case: Case, origin: Path, grid: Grid, means: BatchMeans) -> dict[str, Any]:
    """Raw means always; wall units, budget and errors for channels. `origin` has the files of the case."""
    write_means(folder, grid, case.flow.nu, means)
    if not grid.is_channel or not isinstance(grid.y, FiniteVolumeAxis) or case.flow.nu == 0:
        return {}
    channel = ChannelProfiles(grid.y, case.flow.nu)
    found = report(channel, means)
    values, widths = found["scalars"]
    summary: dict[str, Any] = dict(zip(SCALARS, map(float, values), strict=True))
    summary["ci95"] = dict(zip(SCALARS, map(float, widths), strict=True))
    y_plus = channel.distance * values[0] / case.flow.nu
    table: dict[str, Any] = {"y": channel.distance / channel.half_height, "y_plus": y_plus}
    for i, name in enumerate(PROFILE):
        table |= {name: found["profiles"][0][i], f"{name}_ci95": found["profiles"][1][i]}
    write_table(folder / "profiles.csv", table)
    budget = {"y_plus": y_plus} | {name: found["budget"][0][i] for i, name in enumerate(BUDGET)}
    write_table(folder / "budget.csv", budget)
    if case.reference is not None and case.reference.profiles is not None:
        compared = compare(channel, means, case.reference, origin / case.reference.profiles)
        summary["ci95"] |= compared.pop("ci95")
        summary |= compared
    return summary


def compare(channel: ChannelProfiles, means: BatchMeans, reference: ReferenceTable, path: Path) -> dict[str, Any]:
    """Errors against the case's reference table in bulk and in wall units, and what that table says itself."""
    target = ChannelReference.read(path)
    found: dict[str, Any] = {}
    for key, units in (("errors", "bulk"), ("errors_plus", "wall")):
        value, width = means.estimate(partial(errors, channel, target, units=units))
        found[key] = {"reference": reference.name} | dict(zip(ERRORS, map(float, value), strict=True))
        if units == "bulk":
            found["ci95"] = dict(zip(ERRORS, map(float, width), strict=True))
    found["reference_values"] = {"re_tau": target.re_tau, "c_f": target.c_f, "bulk_plus": target.bulk}
    return found


def write_means(folder: Path, grid: Grid, nu: float, means: BatchMeans) -> None:
    """``statistics.h5``: means of `NAMES`, (y, z), and the batches they are made of; one z where averaged."""
    state, planes = means.state(), means.mean.shape[-1]
    scales: dict[str, Any] = {
        "y": grid.y.centres,
        "z": grid.z.centres if planes > 1 else grid.z.centres.mean(keepdims=True),
        "batch": means.start + means.width * (np.arange(len(means.weights)) + 0.5),
        "quantity": np.array(NAMES, h5py.string_dtype()),
        "limits": np.array(["start", "width"], h5py.string_dtype()),
    }
    dimensions = {"span": ("limits",), "weights": ("batch",)}

    def fill(file: h5py.File) -> None:
        for name, values in scales.items():
            file[name] = values
            file[name].make_scale(name)
        for name in NAMES:
            label(file, name, means.mean[INDEX[name]], ("y", "z"))
        for name, array in state.items():
            label(file, f"batches/{name}", array, dimensions.get(name, ("batch", "quantity", "y", "z")))
        file.attrs.update(names=list(NAMES), averaging_time=means.duration, nu=nu)

    write_hdf5(folder / "statistics.h5", fill)


def write_spectra(folder: Path, case: Case, hook: PlaneSpectra, means: BatchMeans) -> None:
    """``spectra.csv`` at the heights the case asks for."""
    half = 0.5 * hook.operators.grid.y.length
    heights = case.output.spectra_at or tuple(half * fraction for fraction in SPECTRA_AT)
    write_table(folder / "spectra.csv", hook.table(means, heights))


def write_centrelines(folder: Path, simulation: Simulation) -> dict[str, Any]:
    """Centre-line velocities of flows between walls in x and y, for comparison with cavity tables (collective)."""
    op = simulation.operators
    grid = op.grid
    if grid.x.periodic or grid.is_open:
        return {}
    slabs = op.decomposition
    u, v, _ = (slabs.gather_planes(f) for f in simulation.velocity.centred)
    if u is None or v is None:
        return {}
    i, j, k = grid.x.points // 2, grid.y.points // 2, grid.z.points // 2
    on_x, on_y = (u[i, :, k] + u[i - 1, :, k]) / 2, (v[:, j, k] + v[:, j - 1, k]) / 2
    length = max(len(on_x), len(on_y))
    pad = [
        np.pad(np.asarray(a, dtype=float), (0, length - len(a)), constant_values=np.nan)
        for a in (grid.y.centres, on_x, grid.x.centres, on_y)
    ]
    write_table(folder / "profiles.csv", dict(zip(("y", "u_centreline", "x", "v_centreline"), pad, strict=True)))
    return {"extrema": {"u_min": float(on_x.min()), "v_min": float(on_y.min()), "v_max": float(on_y.max())}}
