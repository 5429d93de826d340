"""Statistics of filtered direct simulations: which of them is of a case's grid, and what they say of spectra.

A large-eddy simulation should carry no more than its grid can, so a reference is of one grid. Files are looked for
beside the case, then among the databases that are shipped: one folder, a file for each flow, grid and kernel.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from closures.compare.uncertainty import Sample
from closures.data.exchange import ODD_IN_HEIGHT, SPECTRA
from closures.data.folder import members
from closures.data.opened import opened
from closures.data.profiles import filtered_channel
from closures.data.recipe import FlowRecipe
from closures.data.rows import FLOWS, STATISTICS
from solver.analysis.channel import ChannelProfiles
from solver.case.case import Case
from solver.errors import CaseError
from solver.figures.results import Table
from solver.grid.grid import Grid

FILTERED_DATABASE = Path(__file__).parent / "databases" / "filtered"
SAME = 1e-3  # relative difference of bulk Reynolds numbers of one and the same flow
BATCHES = 5  # of each trajectory, where a file has the snapshots


def own_statistics(case: Case, folder: Path) -> Path | None:
    """The statistics filtered to the very grid of a case: its own, or shipped ones of the same flow; else None."""
    own = case.reference.files(folder).get("filtered") if case.reference else None
    if own is not None and own.exists() and _alike(_recipe(own).coarse_grid, case.build_grid()):
        return own
    return of_grid(FILTERED_DATABASE, case)


def of_grid(folder: Path, case: Case) -> Path | None:
    """The file in a folder that is of the flow and the grid of a channel; of several kernels a box."""
    grid = case.build_grid()
    if not grid.is_channel or case.flow.nu <= 0:
        return None
    found = []
    for path in members(folder):
        recipe = _recipe(path)
        same_flow = abs(np.log(bulk_reynolds(recipe.case(0)) / bulk_reynolds(case))) < SAME
        if same_flow and _alike(recipe.coarse_grid, grid):
            found.append((recipe.filter.horizontal != "box", path))
    return min(found)[1] if found else None


def of_grid_or_refuse(folder: Path, case: Case) -> Path:
    """`of_grid`.

    Raises
    ------
    CaseError : none; the message says which grids there are.
    """
    found = of_grid(folder, case)
    if found is None:
        grids = ", ".join(path.stem for path in members(folder))
        raise CaseError(f"{folder}: has {grids}, none of the flow and the grid of the case: choose another")
    return found


def _recipe(path: Path) -> FlowRecipe:
    with opened(path, (FLOWS, STATISTICS)) as file:
        return FlowRecipe.model_validate_json(file.attrs["recipe"])


def _alike(one: Grid, other: Grid) -> bool:
    """Whether two grids are the same in units of their height."""
    scale = one.y.length / other.y.length
    axes = zip(one.axes, other.axes, strict=True)
    return all(
        a.is_fourier == b.is_fourier and a.points == b.points and np.allclose(a.width, scale * b.width, rtol=1e-9)
        for a, b in axes
    )


def bulk_reynolds(case: Case) -> float:
    """A Reynolds number of the flow's drive: 2 h U_b / nu, or 1 / nu where no mass flux is prescribed."""
    bulk = getattr(case.flow.forcing, "bulk_velocity", 1.0)
    return 2 * abs(bulk) / case.flow.nu * 0.5 * case.build_grid().y.length if case.flow.nu else np.inf


def statistics_of(path: Path) -> tuple[ChannelProfiles, Sample]:
    """Profiles and means of a file, trajectory by trajectory, in the batches that it has."""
    with opened(path, (FLOWS, STATISTICS)) as file:
        count = file["statistics/moments"].shape[1] if file.attrs["kind"] == STATISTICS else BATCHES
    profiles, means = filtered_channel(path, count)
    return profiles, Sample.of([(m, np.ones(len(m))) for m in means])


def filtered_spectra(path: Path, direction: str, u_tau: float) -> Table | None:
    """One-dimensional spectra in wall units, see `closures.compare.references.Target.spectra`; None without."""
    with opened(path, (FLOWS, STATISTICS)) as file:
        if f"statistics/spectra_{direction}" not in file:
            return None
        rows = file[f"statistics/spectra_{direction}"][()].mean(axis=(0, 1), dtype=float)
        k, faces = file[f"dimensions/k_{direction}"][()], file["dimensions/y_faces"][()]
        if "dimensions/plane" in file:
            y = file["dimensions/plane"][()]
        else:
            y = file["dimensions/y"][()][: (rows.shape[-1] + 1) // 2]
            rows = 0.5 * (rows + ODD_IN_HEIGHT[:, None, None] * rows[..., ::-1])[..., : len(y)]
    heights = (y - faces[0]) / (0.5 * (faces[-1] - faces[0]))
    energy = rows.transpose(0, 2, 1).reshape(len(SPECTRA), -1) / ((k[1] - k[0]) * u_tau**2)  # plane by plane
    columns = {name: energy[SPECTRA.index(name)] for name in ("E_uu", "E_vv", "E_ww")}
    return {"y_over_h": np.repeat(heights, len(k)), "k": np.tile(k, len(y))} | columns


def parts(sample: Sample) -> list[np.ndarray]:
    """Means of each run, or of both halves of the only one: what the sample would say with less of it."""
    if len(sample.sums) > 1:
        return [s.sum(0) / w.sum() for s, w in zip(sample.sums, sample.weights, strict=True)]
    sums, weights = sample.sums[0], sample.weights[0]
    middle = len(weights) // 2
    halves = (slice(0, middle), slice(middle, None)) if middle else ()
    return [sums[half].sum(0) / weights[half].sum() for half in halves]
