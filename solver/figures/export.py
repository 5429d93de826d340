"""Snapshots in the formats of other programs: every cell a hexahedron that carries the flow."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solver.case.case import load_case
from solver.errors import FeatureUnavailable, RunFolderError
from solver.figures import vtkhdf
from solver.figures.snapshot import latest_path
from solver.files.folder import case_of_run, write_atomically, write_hdf5
from solver.files.hdf5 import open_hdf5
from solver.grid.axis import FiniteVolumeAxis, FourierAxis
from solver.grid.grid import Grid

Array = NDArray[Any]
FIELDS = ("velocity", "pressure", "nu_t")
# Those of meshio's formats that keep hexahedra and all fields of theirs: its name, and what it is told.
FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    ".vtu": ("vtu", {}),
    ".vtk": ("vtk", {}),
    ".xdmf": ("xdmf", {"data_format": "XML"}),  # else the numbers go to a second file
    ".msh": ("gmsh", {}),
    ".med": ("med", {}),
    ".hmf": ("hmf", {}),
    ".tec": ("tecplot", {}),  # components become velocity_0, _1, _2
}
SERIES = ".vtkhdf"  # holds all snapshots of a run


def export(source: Path, out: Path, overwrite: bool = False) -> None:
    """Write snapshots as hexahedra with ``velocity`` (3), ``pressure``, ``nu_t`` if there is one, and ``solid``.

    The points of a Fourier axis are the centres of equal cells. ``solid`` is 1 in cells of solids, else 0.

    Parameters
    ----------
    source : a run folder, whose last snapshot is taken (`SERIES`: all of them), or a snapshot in a run folder.
    out : file to write; its suffix is one of `FORMATS`, or `SERIES`.
    overwrite : replace `out`.

    Raises
    ------
    RunFolderError : another suffix, `out` exists, no snapshot, or one that does not belong to its run.
    FeatureUnavailable : meshio is not installed, and `out` is not a `SERIES`.
    """
    if out.suffix.lower() not in (*FORMATS, SERIES):
        known = ", ".join((*FORMATS, SERIES))
        raise RunFolderError(f"--out {out}: not of a format that keeps fields of hexahedra: give a name in {known}")
    if out.exists() and not overwrite:
        raise RunFolderError(f"--out {out}: exists: choose another name or add --overwrite")
    path = snapshot_of(source)
    run = path.resolve().parent.parent
    if case_of_run(run) is None:
        raise RunFolderError(f"{path}: the grid is that of its run: leave the snapshot in RUN/snapshots")
    case, folder = load_case(run)
    grid = case.build_grid()
    _, fields = fields_of(path, grid)
    solids = case.build_solids(grid, folder)
    solid = np.zeros(grid.shape) if solids is None else solids.solid
    fixed = {"solid": solid.astype(np.int32).reshape(-1)}
    if out.suffix.lower() == SERIES:
        paths = [path] if path == source else sorted(path.parent.glob("step_*.h5"))
        instants = (fields_of(one, grid) for one in paths)
        write_hdf5(out, lambda file: vtkhdf.fill(file, *hexahedra(grid), fixed, instants))
    else:
        _write_one(out, *hexahedra(grid), fixed | fields)


def _write_one(out: Path, points: Array, cells: Array, fields: dict[str, Array]) -> None:
    """One instant, by meshio.

    Raises
    ------
    FeatureUnavailable : it is not installed.
    """
    try:
        import meshio
    except ImportError:
        raise FeatureUnavailable(f"--out {out}: needs meshio: pip install meshio, or give a name in {SERIES}") from None
    mesh = meshio.Mesh(points, [("hexahedron", cells)], cell_data={name: [field] for name, field in fields.items()})
    name, told = FORMATS[out.suffix.lower()]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):  # its warnings are pages
        write_atomically(out, lambda target: mesh.write(target, file_format=name, **told))


def snapshot_of(source: Path) -> Path:
    """The last snapshot of a run folder, or the file given.

    Raises
    ------
    RunFolderError : there is none.
    """
    if not source.exists():
        raise RunFolderError(f"{source}: no such run folder or snapshot: give one that `solver run` has made")
    if not source.is_dir():
        return source
    if case_of_run(source) is None:
        raise RunFolderError(f"{source}: no run folder (it has no provenance.json): give one made by `solver run`")
    path = latest_path(source)
    if path is None:
        raise RunFolderError(f"{source}: no snapshot to export: set [output] snapshot in the case and run it again")
    return path


def fields_of(path: Path, grid: Grid) -> tuple[float, dict[str, Array]]:
    """Time of a snapshot and its fields on the cells of its run, velocity (cells, 3), the others (cells,).

    Raises
    ------
    RunFolderError : it is no snapshot, or one of another grid.
    """
    try:
        with open_hdf5(path, locking=False) as file:
            fields = {name: np.asarray(file[name]) for name in FIELDS if name in file}
            attributes = dict(file.attrs)
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise RunFolderError(f"{path}: cannot be read ({reason}): give RUN or RUN/snapshots/step_*.h5") from None
    if missing := {"velocity", "pressure"} - fields.keys():
        raise RunFolderError(f"{path}: no snapshot (no {min(missing)}): give RUN or RUN/snapshots/step_*.h5")
    if any(field.shape != ((3,) if name == "velocity" else ()) + grid.shape for name, field in fields.items()):
        case = path.resolve().parent.parent / "case.toml"
        raise RunFolderError(f"{path}: its cells are not those of {case}: put it back into its own run")
    rows = {n: f.reshape(-1) if f.ndim == 3 else np.moveaxis(f, 0, -1).reshape(-1, 3) for n, f in fields.items()}
    return float(attributes["time"]), rows


def hexahedra(grid: Grid) -> tuple[Array, Array]:
    """Corners (n, 3) of the cells of a grid, and the numbers (cells, 8) of those of each; x slowest and z fastest."""
    corners = np.meshgrid(*(faces(axis) for axis in grid.axes), indexing="ij")
    points = np.stack(corners, axis=-1).reshape(-1, 3)
    number = np.arange(len(points)).reshape(corners[0].shape)
    low, high = slice(None, -1), slice(1, None)
    bottom = [number[i, j, low] for i, j in ((low, low), (high, low), (high, high), (low, high))]
    top = [number[i, j, high] for i, j in ((low, low), (high, low), (high, high), (low, high))]
    return points, np.stack([*bottom, *top], axis=-1).reshape(-1, 8)


def faces(axis: FiniteVolumeAxis | FourierAxis) -> Array:
    """Ends of the cells along an axis."""
    if isinstance(axis, FiniteVolumeAxis):
        return axis.faces
    width = axis.length / axis.points
    return width * (np.arange(axis.points + 1) - 0.5)
