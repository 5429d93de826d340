"""Whether a finished set of a linear family holds what its recipe makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from closures.data import inspect
from closures.data.folder import files_of, is_of_sets
from closures.data.opened import opened
from closures.data.rows import read_rows
from closures.linear_families.recipe import Recipe, parse_recipe
from solver.errors import RunFolderError

RECHECKED = 3


def verify(path: Path) -> dict[str, Any]:
    """Recompute every checksum, and for a few samples the parameters from the seed and the residual of the solution.

    Of flows see `closures.data.inspect.verify`.

    Returns
    -------
    dict : ``rows``, ``files``, ``sha256`` and, of linear systems, ``largest_residual`` of the samples that were
        looked at.

    Raises
    ------
    RunFolderError : damaged, or it does not hold what its recipe makes; the first bad sample is named.
    """
    found = inspect.verify(path)
    if is_of_sets(path):
        return found
    worst = []
    for file in [file for files in files_of(path).values() for file in files][
        :: max(1, -(-found["files"] // RECHECKED))
    ]:
        with opened(file, inspect.KINDS) as data:
            if "solver/residual" not in data:
                return found
            recipe = parse_recipe(json.loads(data.attrs["recipe"]), str(file))
            rows = np.unique(np.linspace(0, len(data["checksums"]) - 1, RECHECKED).astype(int))
            worst += [_recheck(data.files[0], recipe, int(row), file) for row in rows]
    return found | {"largest_residual": max(worst)}


def _recheck(file: h5py.File, recipe: Recipe, row: int, path: Path) -> float:
    """Draw a sample anew, compare it with the file, and return the residual of the stored solution."""
    family, rows, sample = recipe.family.build(), read_rows(file, row), int(file["dimensions/sample"][row])
    parameters = family.draw(np.random.default_rng([recipe.seed, sample]))
    for name, value in parameters.items():
        stored = next(found for key, found in rows.items() if key.endswith(f"/{name}"))
        if not np.allclose(stored, value, rtol=1e-10, atol=1e-10):
            raise RunFolderError(f"{path}: sample {sample} is not what its recipe makes ({name} differs)")
    system = family.system(parameters)
    x = rows[f"t0_fields/{family.unknown}"][family.volumes.active]
    residual = float(np.linalg.norm(system.rhs - system.matrix @ x) / np.linalg.norm(system.rhs))
    if residual > 1.1 * recipe.solve.tolerance:
        raise RunFolderError(f"{path}: sample {sample}: the solution leaves a relative residual of {residual:.1e}")
    return residual
