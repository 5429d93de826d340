"""What the averages of a run become: statistics.h5, profiles, budget, spectra, centre lines, errors.

Everything here runs on the root alone, except that `write_centrelines` is collective. Each function gives what the
summary says of it.
"""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from solver.analysis.batch_means import BatchMeans
from solver.analysis.channel import (
    BUDGET,
    ERRORS,
    PROFILE,
    SUBGRID,
    ChannelProfiles,
    departure,
    errors,
    report,
    wall_flows,
)
from solver.analysis.duct import Duct
from solver.analysis.moments import INDEX, NAMES
from solver.analysis.reference import ChannelReference, comparable, leaves_out_much
from solver.analysis.wall_view import at_rest
from solver.case.case import Case
from solver.case.case_tables import ReferenceTable
from solver.files.folder import label, write_hdf5, write_table
from solver.flow.simulation import Simulation
from solver.grid.axis import Array, Axis, FiniteVolumeAxis
from solver.grid.grid import Grid
from solver.observers.section import write_section
from solver.observers.spectra import PlaneSpectra

log = logging.getLogger("solver")
SCALARS = ("u_tau", "bulk_velocity", "re_tau", "re_bulk", "c_f", "total_stress_residual")
SPECTRA_AT = (0.03, 0.08, 0.17, 0.56, 1.0)  # of h, where a case names no heights


def write_statistics(folder: Path, case: Case, origin: Path, grid: Grid, means: BatchMeans) -> dict[str, Any]:
    """Raw means always; wall units, profiles and budget where there are walls; errors against a reference.

    `origin` has the files of the case. Where two walls see different flows each has tables of its own.
    """
    write_means(folder, grid, case.flow.nu, means)
    views = wall_flows(grid, case.flow.nu, driven(case)) if case.flow.nu > 0 else {}
    if not views:
        return _without_profiles(folder, case, origin, grid, means)
    if not grid.z.is_fourier:
        means = _spanwise(grid, means)
    found = {side: _write_profiles(folder, side, channel, means) for side, channel in views.items()}
    if "" not in found:
        return {"walls": found}
    summary = found[""]
    if case.reference is not None and case.reference.profiles is not None and comparable(grid):
        compared = compare(views[""], means, case.reference, origin / case.reference.profiles)
        summary["ci95"] |= compared.pop("ci95")
        viscous_length = views[""].half_height / compared["reference_values"]["re_tau"]
        summary["grid_is_coarse"] = leaves_out_much(grid, viscous_length)
        summary |= compared
    return summary


def driven(case: Case) -> bool:
    """Whether anything but moving walls drives the flow along x."""
    return case.flow.forcing.kind != "none"


def _write_profiles(folder: Path, side: str, channel: ChannelProfiles, means: BatchMeans) -> dict[str, Any]:
    """``profiles.csv`` and ``budget.csv``, with `side` in their names where there is one, and the scalars."""
    found = report(channel, means)
    values, widths = found["scalars"]
    y_plus = channel.distance * values[0] / channel.nu
    table: dict[str, Any] = {"y": channel.distance / channel.half_height, "y_plus": y_plus}
    for i, name in enumerate(PROFILE):
        table |= {name: found["profiles"][0][i], f"{name}_ci95": found["profiles"][1][i]}
    budget = {"y_plus": y_plus} | {name: found["budget"][0][i] for i, name in enumerate(BUDGET)}
    suffix = f"_{side}" if side else ""
    write_table(folder / f"profiles{suffix}.csv", table)
    write_table(folder / f"budget{suffix}.csv", budget)
    summary = _scalars(values, widths)
    named = [dict(zip(SUBGRID, map(float, numbers), strict=True)) for numbers in found["subgrid"]]
    return summary | {"subgrid": named[0] | {"ci95": named[1]}}


def _scalars(values: Array, widths: Array) -> dict[str, Any]:
    """As many of `SCALARS` as there are values, with their half widths."""
    named = [dict(zip(SCALARS, map(float, numbers), strict=False)) for numbers in (values, widths)]
    return {**named[0], "ci95": named[1]}


def _without_profiles(folder: Path, case: Case, origin: Path, grid: Grid, means: BatchMeans) -> dict[str, Any]:
    """Wall units of a duct, from its perimeter; a line says what there is. Of a square duct its section as well."""
    y, z, nu = grid.y, grid.z, case.flow.nu
    if not isinstance(y, FiniteVolumeAxis) or not isinstance(z, FiniteVolumeAxis) or not at_rest(y, z) or nu == 0:
        log.info("[statistics] means are in statistics.h5; no wall units or profiles without walls and nu > 0")
        return {}
    log.info("[statistics] means over x are in statistics.h5; u_tau is that of the mean stress over all walls")
    duct = Duct(y, z, nu)
    found = _scalars(*means.estimate(duct.scalars))
    return found | (write_section(folder, case.reference, origin, duct, means) if duct.is_square else {})


def _spanwise(grid: Grid, means: BatchMeans) -> BatchMeans:
    """The same means averaged along a periodic z of cells."""
    share = grid.z.width / grid.z.length
    whole = BatchMeans(means.start, means.width)
    arrays = means.state().items()
    whole.restore({name: (a * share).sum(-1, keepdims=True) if a.ndim > 2 else a for name, a in arrays})
    return whole


def compare(channel: ChannelProfiles, means: BatchMeans, reference: ReferenceTable, path: Path) -> dict[str, Any]:
    """Errors against the case's reference table in bulk and in wall units, and what that table says itself."""
    target = ChannelReference.read(path)
    found: dict[str, Any] = {}
    for key, units in (("errors", "bulk"), ("errors_plus", "wall")):
        value, width = means.estimate(partial(errors, channel, target, units=units))
        found[key] = {"reference": reference.name} | dict(zip(ERRORS, map(float, value), strict=True))
        if units == "bulk":
            found["ci95"] = dict(zip(ERRORS, map(float, width), strict=True))
    value, width = means.estimate(partial(departure, channel, target))
    found["u_plus_departure"] = {"value": float(value[0]), "ci95": float(width[0])}
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
    """``spectra.csv`` at the wall distances the case asks for."""
    views = wall_flows(hook.operators.grid, case.flow.nu, driven(case))
    channel = next(iter(views.values()))
    heights = case.output.spectra_at or tuple(channel.half_height * fraction for fraction in SPECTRA_AT)
    write_table(folder / "spectra.csv", hook.table(means, channel, heights))


def write_centrelines(folder: Path, simulation: Simulation) -> dict[str, Any]:
    """Centre-line velocities of flows between walls in x and y, for comparison with cavity tables (collective)."""
    op = simulation.operators
    grid = op.grid
    if grid.x.periodic or grid.is_open:
        return {}
    slices = [torch.from_numpy(_middle(f.double().cpu().numpy(), grid.z, 2)) for f in simulation.velocity.centred[:2]]
    u, v = (op.decomposition.gather_planes(f[..., None]) for f in slices)
    if u is None or v is None:
        return {}
    on_x, on_y = (_middle(f[..., 0].numpy(), axis, along) for f, axis, along in ((u, grid.x, 0), (v, grid.y, 1)))
    length = max(len(on_x), len(on_y))
    pad = [
        np.pad(a, (0, length - len(a)), constant_values=np.nan) for a in (grid.y.centres, on_x, grid.x.centres, on_y)
    ]
    write_table(folder / "profiles.csv", dict(zip(("y", "u_centreline", "x", "v_centreline"), pad, strict=True)))
    return {"extrema": {"u_min": float(on_x.min()), "v_min": float(on_y.min()), "v_max": float(on_y.max())}}


def _middle(f: Array, axis: Axis, along: int) -> Array:
    """`f` half way along an axis of cells, linear between their centres; anywhere along a Fourier axis."""
    if not isinstance(axis, FiniteVolumeAxis):
        point: Array = np.take(f, axis.points // 2, axis=along)
        return point
    middle = 0.5 * (axis.faces[0] + axis.faces[-1])
    upper = int(np.searchsorted(axis.centres, middle))
    below, above = axis.centres[upper - 1 : upper + 1]
    share = (middle - below) / (above - below)
    between: Array = (1 - share) * np.take(f, upper - 1, axis=along) + share * np.take(f, upper, axis=along)
    return between
