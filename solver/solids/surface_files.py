"""Triangles from files: what pyvista reads, and where it has no reader, what meshio reads."""

from __future__ import annotations

import contextlib
import io
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solver.errors import CaseError, FeatureUnavailable

Vertices = NDArray[np.float64]
Triangles = NDArray[np.int64]
FARTHEST = 1e100  # what no unit of length explains


def read_triangles(path: Path) -> tuple[Vertices, Triangles]:
    """Corners (n, 3) and triangles (m, 3) of a surface; of a volume mesh, those of its outside.

    Raises
    ------
    CaseError : no such file, not of the format its name promises, an image or a grid of points, or no triangle in it.
    FeatureUnavailable : pyvista is not installed.
    """
    what = f"[solids] surface {path}"
    if not path.is_file():
        raise CaseError(f"{what}: there is no such file")
    try:
        import pyvista
    except ImportError:
        raise FeatureUnavailable("[solids] surface: reading it needs pyvista (pip install pyvista)") from None
    try:
        if path.suffix.lower() == ".stl":
            _check_stl(path)
        mesh = _read(path)
        if isinstance(mesh, pyvista.MultiBlock):
            mesh = mesh.combine()
        is_image = isinstance(mesh, pyvista.ImageData | pyvista.RectilinearGrid)
        points, faces = (np.zeros((0, 3)), np.zeros((0, 3), int)) if is_image else _outside(mesh)
    except (Exception, SystemExit) as error:  # readers raise anything
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        kind = path.suffix.removeprefix(".").upper() or "surface"
        raise CaseError(f"{what}: not a valid {kind} ({reason}): export it again") from None
    if is_image:
        size = " x ".join(map(str, mesh.dimensions))
        raise CaseError(f"{what}: is an image or grid of {size} points, no surface: contour it and give the contour")
    if not (np.abs(points) < FARTHEST).all():
        raise CaseError(f"{what}: has corners that are infinitely far away: export it again")
    if not len(faces):
        raise CaseError(f"{what}: holds no triangles: give a surface or a volume mesh")
    return points, faces


def _check_stl(path: Path) -> None:
    """Binary files count their triangles, others begin with a word; VTK says pages about those that do neither."""
    with path.open("rb") as file:
        head = file.read(84)
    size, count = path.stat().st_size, int.from_bytes(head[80:84], "little")
    binary = len(head) == 84 and count > 0 and 84 + 50 * count <= size
    if not binary and not head.lstrip().lower().startswith(b"solid"):
        raise ValueError(f"{size} bytes, which hold no {count} triangles as the header says")


def _read(path: Path) -> Any:
    """What the file holds; readers that say pages about it on the terminal are not heard."""
    import pyvista

    with ExitStack() as quiet:
        quiet.enter_context(warnings.catch_warnings(action="ignore"))
        quiet.enter_context(contextlib.redirect_stdout(io.StringIO()))
        quiet.enter_context(contextlib.redirect_stderr(io.StringIO()))
        quiet.enter_context(pyvista.vtk_verbosity("off"))
        quiet.enter_context(pyvista.VtkErrorCatcher(raise_errors=True, send_to_logging=False))
        try:
            reader = pyvista.get_reader(str(path))
        except ValueError:  # no reader for such names
            import meshio

            return pyvista.from_meshio(meshio.read(path))
        return reader.read()


def _outside(mesh: Any) -> tuple[Vertices, Triangles]:
    import pyvista

    if isinstance(mesh, pyvista.UnstructuredGrid):
        solid = np.asarray(mesh.compute_cell_sizes(length=False, area=False)["Volume"]) != 0
        mesh = mesh.extract_cells(solid) if solid.any() else mesh  # a volume mesh often brings its surface as well
    with warnings.catch_warnings(action="ignore"):
        surface = mesh.extract_surface(algorithm="dataset_surface").triangulate()
    return np.asarray(surface.points, dtype=np.float64), surface.faces.reshape(-1, 4)[:, 1:].astype(np.int64)
