"""What a file of filtered trajectories is made of: datasets, dimension scales, attributes.

The layout is The Well's (Ohana et al. 2024, arXiv 2412.00568) with what `closures.data.windows` asks for besides; every
dimension has a scale in ``dimensions``, also to be found at the top, so that readers of labelled arrays (xarray) find
coordinates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np

from closures.data.exchange import EXCHANGE, SPECTRA
from closures.data.recipe import FlowRecipe
from closures.data.well import DIGEST, at_ends, boundary, dimension, groups, named, words
from solver.discretisation.shells import shell_wavenumbers
from solver.files.hdf5 import in_place
from solver.grid.axis import FiniteVolumeAxis, FourierAxis
from solver.grid.grid import Grid

Layout = Mapping[str, tuple[tuple[int, ...], Any]]  # shape and type of one snapshot's row, by dataset
MOMENTS = (
    *("u", "v", "w", "uu", "vv", "ww", "uv", "uw", "vw"),
    *("tau_xx", "tau_yy", "tau_zz", "tau_xy", "tau_xz", "tau_yz"),
)  # named as in solver.observers.statistics


def layout_of(recipe: FlowRecipe) -> Layout:
    """What a snapshot consists of: fields and spectra in single precision, other statistics in double."""
    grid = recipe.coarse_grid
    shape = tuple(axis.n for axis in grid.axes)
    found: dict[str, tuple[tuple[int, ...], Any]] = {"statistics/moments": ((len(MOMENTS), shape[1]), np.float64)}
    if recipe.store.velocity:
        found["t1_fields/velocity"] = ((*shape, 3), np.float32)
    if recipe.store.staggered:
        found["t1_fields/staggered_velocity"] = ((*shape, 3), np.float32)
    if recipe.store.stress:
        found["t2_fields/subgrid_stress"] = ((*shape, 3, 3), np.float32)
    if recipe.store.planes:
        found["statistics/exchange"] = ((len(EXCHANGE), shape[1]), np.float64)
        for d, name in ((0, "x"), (2, "z")):
            waves = len(grid.fourier_axes[d].wavenumbers(half=True))
            found[f"statistics/spectra_{name}"] = ((len(SPECTRA), waves, shape[1]), np.float32)
    if grid.is_channel:
        found["statistics/wall_stress"] = ((), np.float64)
    if grid.is_box:
        found["statistics/spectrum"] = ((len(shell_wavenumbers(grid)),), np.float64)
    return found


def lay_out(file: h5py.File, recipe: FlowRecipe, layout: Layout, numbers: Sequence[int]) -> None:
    """Groups, attributes, dimension scales, and for trajectories of some numbers datasets, empty and in place."""
    grid, n_traj, n_steps = recipe.coarse_grid, len(numbers), recipe.sampling.snapshots
    file.attrs.update(
        dataset_name=recipe.title,
        grid_type="cartesian",
        n_spatial_dims=3,
        n_trajectories=n_traj,
        seed=recipe.seed,
        nu=recipe.flow.nu,
        filter=json.dumps(recipe.describe_filter()),
        case=recipe.case(numbers[0]).model_dump_json(exclude_none=True),
        simulation_parameters=["nu"],
    )
    _dimensions(file, recipe, grid, numbers)
    _boundaries(file, grid)
    scalars = file.create_group("scalars")
    scalars.attrs["field_names"] = ["nu"]
    scalars["nu"] = recipe.flow.nu
    scalars["nu"].attrs.update(sample_varying=False, time_varying=False)
    groups(file, layout, "t0_fields", "t1_fields", "t2_fields", "statistics")
    for name, (shape, kind) in layout.items():
        group, _, last = name.rpartition("/")
        data = in_place(file[group], last, (n_traj, n_steps, *shape), np.dtype(kind))
        data.attrs.update(sample_varying=True, time_varying=True)
        if group != "statistics":
            data.attrs["dim_varying"] = np.ones(3, bool)
        if group == "t2_fields":
            data.attrs.update(symmetric=True, antisymmetric=False)
        named(file, data, ("trajectory", "time", *_axes_of(name)))
    if "statistics/moments" in layout:
        file["statistics/mean"] = np.zeros(layout["statistics/moments"][0])
        named(file, file["statistics/mean"], _axes_of("statistics/moments"))
    file["checksums"] = np.zeros((n_traj, DIGEST), np.uint8)
    named(file, file["checksums"], ("trajectory", "byte"))


def _axes_of(name: str) -> tuple[str, ...]:
    """Dimensions of a dataset after trajectory and time."""
    own = {
        "statistics/moments": ("moment", "y"),
        "statistics/wall_stress": (),
        "statistics/exchange": ("exchange", "y"),
        "statistics/spectra_x": ("cospectrum", "k_x", "y"),
        "statistics/spectra_z": ("cospectrum", "k_z", "y"),
        "statistics/spectrum": ("shell",),
        "t1_fields/staggered_velocity": ("x", "y_upper", "z", "component"),
        "t2_fields/subgrid_stress": ("x", "y", "z", "component", "second_component"),
    }
    return own.get(name, ("x", "y", "z", "component"))


def _dimensions(file: h5py.File, recipe: FlowRecipe, grid: Grid, numbers: Sequence[int]) -> None:
    group = file.create_group("dimensions")
    group.attrs["spatial_dims"] = ["x", "y", "z"]
    lines: dict[str, Any] = {
        "time": recipe.sampling.times,
        "trajectory": np.asarray(numbers),
        "component": words("xyz"),
        "second_component": words("xyz"),  # of tensors: no dimension twice in one array
        "byte": np.arange(DIGEST),
        "moment": words(MOMENTS),
    }
    for name, axis in zip("xyz", grid.axes, strict=True):
        if isinstance(axis, FourierAxis):
            lines[name] = np.arange(axis.n) * (axis.length / axis.n)
            lines[f"{name}_faces"] = np.arange(axis.n + 1) * (axis.length / axis.n)
        else:
            lines[name], lines[f"{name}_faces"] = axis.centres, axis.faces
    if isinstance(grid.y, FiniteVolumeAxis):
        lines["y_upper"] = grid.y.faces[1:]
    else:
        lines["y_upper"] = lines["y"]
    if recipe.store.planes:
        lines |= {"exchange": words(EXCHANGE), "cospectrum": words(SPECTRA)}
        lines |= {f"k_{'xyz'[d]}": axis.wavenumbers(half=True) for d, axis in grid.fourier_axes.items()}
    if grid.is_box:
        lines["shell"] = shell_wavenumbers(grid)
    for name, values in lines.items():
        dimension(file, name, values)


def _boundaries(file: h5py.File, grid: Grid) -> None:
    for name, axis in zip("xyz", grid.axes, strict=True):
        boundary(file, name, "PERIODIC" if axis.periodic else "WALL", [name], at_ends(axis.n, (0, 1)), ["velocity"])
