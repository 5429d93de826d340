"""What a finished file of a linear family holds, and whether it still does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from closures.data.grid_set import describe_set, is_flow_set, verify_set
from closures.data.inspect import datasets, describe_flow, is_flow_file, plain, reading, verify_flow
from closures.data.profiles import channel_facts
from closures.linear_families.recipe import Recipe, parse_recipe
from closures.linear_families.store import FORMAT, content_digest, digest, read_rows
from solver.errors import RunFolderError
from solver.files.hdf5 import open_hdf5

RECHECKED = 3


def describe(path: Path) -> dict[str, Any]:
    """Attributes, datasets with their shapes, and the checksum that the file claims; of flows too.

    Raises
    ------
    RunFolderError : missing, not such a file, or of another version.
    """
    if is_flow_set(path):
        return describe_set(path)
    if is_flow_file(path):
        return describe_flow(path) | channel_facts(path)
    with _opened(path) as file:
        found: dict[str, Any] = {key: plain(value) for key, value in file.attrs.items()}
        found["datasets"] = datasets(file)
        iterations = file["solver/iterations"][()]
        found["iterations"] = {"mean": float(iterations.mean()), "largest": int(iterations.max())}
        found["largest_residual"] = float(file["solver/residual"][()].max())
    return found | {"path": str(path), "samples": found["n_trajectories"], "bytes": path.stat().st_size}


info = describe


def verify(path: Path) -> dict[str, Any]:
    """Recompute every checksum, and for a few samples the parameters from the seed and the residual of the solution.

    Of flows see `verify_flow`.

    Returns
    -------
    ``samples``, ``sha256`` and ``largest_residual`` of the samples that were solved for.

    Raises
    ------
    RunFolderError : damaged, or it does not hold what its recipe makes; the first bad sample is named.
    """
    if is_flow_set(path):
        return verify_set(path)
    if is_flow_file(path):
        return verify_flow(path)
    with _opened(path) as file:
        header = str(plain(file.attrs["recipe"]))
        claimed = file["checksums"][()]
        for sample in range(len(claimed)):
            if digest(read_rows(file, sample)) != claimed[sample].tobytes():
                raise RunFolderError(
                    f"{path}: damaged (sample {sample} does not match its checksum): generate it again"
                )
        total = content_digest(claimed, header)
        if total != plain(file.attrs["sha256"]):
            raise RunFolderError(f"{path}: damaged (the checksums do not match their sum): generate it again")
        recipe = parse_recipe(json.loads(header), str(path))
        chosen = np.unique(np.linspace(0, len(claimed) - 1, RECHECKED).astype(int))
        worst = max(_recheck(file, recipe, int(sample), path) for sample in chosen)
    return {"samples": len(claimed), "sha256": total, "largest_residual": worst}


def _recheck(file: h5py.File, recipe: Recipe, sample: int, path: Path) -> float:
    """Draw a sample anew, compare it with the file, and return the residual of the stored solution."""
    family, rows = recipe.family.build(), read_rows(file, sample)
    parameters = family.draw(np.random.default_rng([recipe.seed, sample]))
    for name, value in parameters.items():
        stored = next(row for key, row in rows.items() if key.endswith(f"/{name}"))
        if not np.allclose(stored, value, rtol=1e-10, atol=1e-10):
            raise RunFolderError(f"{path}: sample {sample} is not what its recipe makes ({name} differs)")
    system = family.system(parameters)
    x = rows[f"t0_fields/{family.unknown}"][family.volumes.active]
    residual = float(np.linalg.norm(system.rhs - system.matrix @ x) / np.linalg.norm(system.rhs))
    if residual > 1.1 * recipe.solve.tolerance:
        raise RunFolderError(f"{path}: sample {sample}: the solution leaves a relative residual of {residual:.1e}")
    return residual


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    if not path.is_file():
        raise RunFolderError(f"{path}: no such data file: make it with `solver generate`")
    try:
        file = open_hdf5(path)
    except OSError as error:
        raise RunFolderError(f"{path}: not an HDF5 file ({str(error).partition(';')[0]})") from None
    with file, reading(path):
        version = plain(file.attrs.get("format"))
        if version != FORMAT or "checksums" not in file:
            raise RunFolderError(f"{path}: data format {version}, this version reads {FORMAT}: generate the file again")
        yield file
