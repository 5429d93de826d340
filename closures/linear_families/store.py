"""The file of a batch of a linear family: HDF5 in the layout of The Well, written when the batch is solved.

The Well: Ohana et al. (2024), arXiv 2412.00568. Steady fields are ``(samples, x, y[, z])`` in ``t0_fields``, numbers in
``scalars``; ``dimensions/sample`` has the numbers of the samples, which stand in the order they were solved in. A file
is there whole or not at all, so which of them are there tells what need not be done again after an interruption.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from closures.data.rows import FORMAT, LINEAR, Rows, chained, content_digest, digest_of
from closures.data.well import DIGEST, at_ends, boundary, dimension, groups, named
from closures.linear_families.family import Family, Parameters
from solver.errors import RunFolderError
from solver.files.folder import write_hdf5
from solver.files.hdf5 import open_hdf5


def sample_rows(family: Family, parameters: Parameters, solution: np.ndarray, iterations: int, residual: float) -> Rows:
    """What one sample leaves in the file, by dataset."""
    rows: dict[str, np.ndarray] = {}
    for name, value in parameters.items():
        is_field = value.shape == family.volumes.shape
        group = "t0_fields" if is_field else "scalars" if value.ndim == 0 else "parameters"
        rows[f"{group}/{name}"] = np.asarray(value, np.float64)
    rows[f"t0_fields/{family.unknown}"] = family.volumes.field(solution)
    rows["solver/iterations"] = np.array(iterations, np.int64)
    rows["solver/residual"] = np.array(residual, np.float64)
    return rows


def write_batch(
    path: Path, family: Family, header: str, numbers: Sequence[int], rows: Sequence[Rows], attributes: Mapping[str, Any]
) -> None:
    """Write the samples of some `numbers`, in that order; `header` is the resolved recipe as JSON.

    Raises
    ------
    RunFolderError : no space, or no permission.
    """
    digests = np.frombuffer(b"".join(chained(b"", row) for row in rows), np.uint8).reshape(-1, DIGEST)
    told = {"format": FORMAT, "kind": LINEAR, "recipe": header}
    sha = np.bytes_(content_digest(digests, header))

    def fill(file: h5py.File) -> None:
        _lay_out(file, family, numbers, rows)
        file["checksums"] = digests
        file.attrs.update({**attributes, **told, "sha256": sha})

    write_hdf5(path, fill)


def intact(path: Path, header: str) -> bool:
    """Whether the file is there and holds what its checksums say.

    Raises
    ------
    RunFolderError : another recipe or version made it.
    """
    if not path.exists():
        return False
    try:
        with open_hdf5(path) as file:
            same = file.attrs["format"] == FORMAT and file.attrs["recipe"] == header
            whole = same and all(digest_of(file, i) == sha.tobytes() for i, sha in enumerate(file["checksums"][()]))
    except (OSError, LookupError, RuntimeError):
        return False
    if not same:
        raise RunFolderError(f"{path}: another recipe or version made it: remove the set, or choose another with --out")
    return whole


def _lay_out(file: h5py.File, family: Family, numbers: Sequence[int], rows: Sequence[Rows]) -> None:
    """Groups, attributes, dimensions and the datasets."""
    v = family.volumes
    axes = "xyz"[: v.ndim]
    file.attrs.update(dataset_name=family.name, grid_type="cartesian", n_spatial_dims=v.ndim)
    file.attrs["n_trajectories"] = len(numbers)
    dimensions = file.create_group("dimensions")
    dimensions.attrs["spatial_dims"] = list(axes)
    for name, n, length in zip(axes, v.shape, v.lengths, strict=True):
        dimension(file, name, (np.arange(n) + 0.5) * (length / n))
    dimension(file, "time", np.zeros(1))
    dimension(file, "sample", np.asarray(numbers))
    groups(file, rows[0], "boundary_conditions", "t0_fields", "t1_fields", "t2_fields", "scalars")
    _boundaries(file, family)
    for name in rows[0]:
        group = name.partition("/")[0]
        data = file.create_dataset(name, data=np.stack([row[name] for row in rows]))
        data.attrs.update(sample_varying=True, time_varying=False)
        if group == "t0_fields":
            data.attrs["dim_varying"] = np.ones(v.ndim, bool)
        if group in ("t0_fields", "scalars", "solver"):
            named(file, data, ("sample", *axes) if group == "t0_fields" else ("sample",))


def _boundaries(file: h5py.File, family: Family) -> None:
    """Sides with a prescribed value are open, those with a flux and the faces of solids are walls."""
    v, kinds = family.volumes, {"value": "OPEN", "flux": "WALL"}
    axes = list("xyz"[: v.ndim])
    for name, n, sides in zip(axes, v.shape, v.sides, strict=True):
        for side, kind in kinds.items():
            if ends := [end for end in (0, 1) if sides[end] == side]:
                at = at_ends(n, ends)
                boundary(file, name, kind, [name], at, [family.unknown])  # type: ignore[arg-type]  # OPEN or WALL
    if not v.active.all():
        boundary(file, "solid", "WALL", axes, ~v.active, [family.unknown])
