"""What files of trajectories hold, as coefficients and as a reference table; not a test itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import h5py
import numpy as np
import torch
from torch import Tensor

from closures.data.folder import manifest
from closures.data.grids import load_flow_recipes
from closures.data.opened import opened
from closures.data.profiles import filtered_channel
from closures.data.recipe import FlowRecipe
from closures.data.rows import content_digest, row_names
from closures.data.store import FlowStore
from solver.analysis.channel import table_of
from solver.discretisation.calculus import Operators
from solver.discretisation.fft_torch import TorchEngine
from solver.discretisation.staggered import y_slowest
from solver.files.hdf5 import VERSION
from solver.grid.axis import FourierAxis


def load_flow_recipe(path: Path, trajectories: int | None = None, overrides: Sequence[str] = ()) -> FlowRecipe:
    """The recipe of a file that has one coarse grid, see `load_flow_recipes`."""
    ((_, recipe),) = load_flow_recipes(path, trajectories, overrides).items()
    return recipe


def from_points(operators: Operators, f: Tensor) -> Tensor:
    """Coefficients of a field given as by `on_points`."""
    x, z = cast(FourierAxis, operators.grid.x), cast(FourierAxis, operators.grid.z)
    box = isinstance(operators.grid.y, FourierAxis)
    kind = torch.promote_types(f.dtype, torch.complex64) if box else f.dtype
    modes = TorchEngine().plane_modes(f.transpose(0, 1), (x.highest_mode, z.highest_mode), f.new_empty(0, dtype=kind))
    if isinstance(operators.grid.y, FourierAxis):
        modes = TorchEngine().column_modes(modes, operators.grid.y.highest_mode)
    return y_slowest(modes.transpose(1, 2))


def reference_profiles(path: Path):
    """The profiles of a filtered channel as columns of a reference table."""
    channel, means = filtered_channel(path)
    return table_of(channel, means.mean(axis=(0, 1))).table


def as_one_file(folder: Path, path: Path) -> Path:
    """The set as versions before folders wrote it: all trajectories in one file, which says which are for tests."""
    with opened(folder) as old, h5py.File(path, "w", libver=VERSION) as new:
        header = FlowRecipe.model_validate(manifest(folder)["inputs"]["recipe"], strict=False).model_dump_json()
        rows = row_names(old.files[0])
        for name in ("dimensions", "boundary_conditions", "scalars"):
            old.files[0].copy(name, new)
        for name in rows:
            new[name] = old[name][()]
            new[name].attrs.update(sample_varying=True, time_varying=True)
        new["checksums"] = old["checksums"][()]
        new["statistics/mean"] = old["statistics/moments"][()].mean((0, 1))
        sha = content_digest(new["checksums"][()], header)
        new.attrs.update({**old.files[0].attrs, "recipe": header, "sha256": np.bytes_(sha), "test_trajectories": [2]})
    return path


def begun(store: FlowStore) -> None:
    """Room for the states of a set of which no file is looked at."""
    store.states.mkdir()
    store.target.mkdir()
    for file in store.files(0).values():
        file.part.touch()
