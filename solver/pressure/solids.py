"""Solid bodies on a grid of cells: which cells they fill, which faces stay open, which fluid parts they leave."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from solver.errors import CaseError, FeatureUnavailable
from solver.grid import Grid

Points = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
Triple = tuple[float, float, float]
Mask = NDArray[np.bool_]


class Shape(Protocol):
    """A body: tells which points, given as broadcastable x, y, z, it contains."""

    def contains(self, x: NDArray, y: NDArray, z: NDArray) -> Mask:
        """True inside or on the surface; broadcast shape of the coordinates."""
        ...


@dataclass(frozen=True)
class Box:
    """Axis-parallel block between two corners."""

    lower: Triple
    upper: Triple

    def __post_init__(self) -> None:
        if not all(a < b for a, b in zip(self.lower, self.upper, strict=True)):
            raise CaseError(f"[solids] box: lower {self.lower} must be below upper {self.upper} in every direction")

    def contains(self, x: NDArray, y: NDArray, z: NDArray) -> Mask:
        """True between the corners."""
        (x0, y0, z0), (x1, y1, z1) = self.lower, self.upper
        return (x0 <= x) & (x <= x1) & (y0 <= y) & (y <= y1) & (z0 <= z) & (z <= z1)


@dataclass(frozen=True)
class Sphere:
    """Ball of `radius` about `centre`."""

    centre: Triple
    radius: float

    def __post_init__(self) -> None:
        _check_radius("sphere", self.radius)

    def contains(self, x: NDArray, y: NDArray, z: NDArray) -> Mask:
        """True within the radius."""
        a, b, c = self.centre
        return (x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2 <= self.radius**2


@dataclass(frozen=True)
class Cylinder:
    """Circular cylinder along `axis` (0, 1, 2), between `lower` and `upper` there; endless by default."""

    centre: Triple
    radius: float
    axis: int = 2
    lower: float = -np.inf
    upper: float = np.inf

    def __post_init__(self) -> None:
        _check_radius("cylinder", self.radius)
        if self.axis not in (0, 1, 2) or not self.lower < self.upper:
            raise CaseError(f"[solids] cylinder: axis {self.axis} must be 0, 1 or 2, and lower below upper")

    def contains(self, x: NDArray, y: NDArray, z: NDArray) -> Mask:
        """True within the radius and between the ends."""
        lines = (x, y, z)
        squares = [(lines[d] - self.centre[d]) ** 2 for d in range(3) if d != self.axis]
        along = lines[self.axis]
        return (squares[0] + squares[1] <= self.radius**2) & (self.lower <= along) & (along <= self.upper)


def _check_radius(kind: str, radius: float) -> None:
    if not radius > 0:
        raise CaseError(f"[solids] {kind}: radius = {radius} must be positive")


@dataclass(frozen=True)
class Surface:
    """Body bounded by a closed triangulated surface read from `path` (STL, or anything meshio knows).

    Points of the file are multiplied by `scale` and then moved by `shift`.

    Raises
    ------
    CaseError : the file cannot be read, or the surface has open edges.
    FeatureUnavailable : pyvista is not installed.
    """

    path: Path
    scale: float = 1.0
    shift: Triple = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if not Path(self.path).is_file():
            raise CaseError(f"[solids] surface: there is no file {self.path}")

    @cached_property
    def mesh(self):  # type: ignore[no-untyped-def]  # pyvista is optional at import time
        """The surface as a pyvista mesh, scaled and shifted."""
        try:
            import pyvista
        except ImportError:
            raise FeatureUnavailable("[solids] surface: reading it needs pyvista (pip install pyvista)") from None
        try:
            with warnings.catch_warnings(action="ignore"):  # VTK's complaint about the file, pages long
                mesh = pyvista.read(self.path).extract_surface(algorithm="dataset_surface").triangulate().clean()
        except Exception as error:  # readers raise anything
            reason = str(error).partition("\n")[0]
            raise CaseError(f"[solids] surface {self.path}: cannot be read ({reason})") from None
        if mesh.n_cells == 0 or mesh.n_open_edges > 0:
            raise CaseError(
                f"[solids] surface {self.path}: {mesh.n_cells} triangles with {mesh.n_open_edges} open edges do not "
                "enclose a body: close the surface"
            )
        mesh.points = np.asarray(mesh.points, dtype=np.float64) * self.scale + np.asarray(self.shift)
        return mesh

    def contains(self, x: NDArray, y: NDArray, z: NDArray) -> Mask:
        """True for points enclosed by the surface; only those in its bounding box are looked at."""
        import pyvista

        shape = np.broadcast_shapes(x.shape, y.shape, z.shape)
        x0, x1, y0, y1, z0, z1 = self.mesh.bounds
        near = np.broadcast_to((x0 <= x) & (x <= x1) & (y0 <= y) & (y <= y1) & (z0 <= z) & (z <= z1), shape)
        inside = np.zeros(shape, dtype=bool)
        if near.any():
            points = np.stack([np.broadcast_to(line, shape)[near] for line in (x, y, z)], axis=-1)
            found = pyvista.PolyData(points).select_interior_points(
                self.mesh, method="cell_locator", check_surface=False
            )
            inside[near] = np.asarray(found["selected_points"], dtype=bool)
        return inside


@dataclass(frozen=True, eq=False)
class Solids:
    """A solid mask on a grid of cells and what follows from it.

    Parameters
    ----------
    grid : finite-volume in every direction, or a single Fourier point (a plane flow).
    solid : ``(nx, ny, nz)``, True where a cell is solid.

    Raises
    ------
    CaseError : the grid has Fourier directions, the mask another shape, or no cell is left to the fluid.
    """

    grid: Grid
    solid: Mask

    def __post_init__(self) -> None:
        for name, axis in zip("xyz", self.grid.axes, strict=True):
            if axis.is_fourier and axis.points > 1:
                raise CaseError(f"[solids] {name} is a Fourier axis: set [grid.{name}] kind = 'finite_volume'")
        if self.solid.shape != self.grid.shape:
            raise CaseError(f"[solids] mask of shape {self.solid.shape} on a grid of {self.grid.shape} cells")
        if self.solid.all():
            raise CaseError("[solids] no fluid is left, every cell centre lies in a solid: make the shapes smaller")

    @classmethod
    def from_shapes(cls, grid: Grid, shapes: Sequence[Shape]) -> Solids:
        """Cells whose centre lies in a shape, or in its image beyond a periodic seam.

        Raises
        ------
        CaseError : a shape contains no cell centre (too small, or outside the box), or no fluid is left.
        """
        solid = np.zeros(grid.shape, dtype=bool)
        shifts = [
            (0.0, axis.length, -axis.length) if axis.periodic and axis.points > 1 else (0.0,) for axis in grid.axes
        ]
        x, y, z = (axis.centres for axis in grid.axes)
        for shape in shapes:
            filled = np.zeros_like(solid)
            for dx, dy, dz in product(*shifts):
                filled |= shape.contains((x + dx)[:, None, None], (y + dy)[None, :, None], (z + dz)[None, None, :])
            if not filled.any():
                raise CaseError(f"[solids] {shape} contains no cell centre: move it into the box or refine the grid")
            solid |= filled
        return cls(grid, solid)

    @classmethod
    def none(cls, grid: Grid) -> Solids:
        """A grid full of fluid."""
        return cls(grid, np.zeros(grid.shape, dtype=bool))

    @property
    def fluid(self) -> Mask:
        """``(nx, ny, nz)``, True where a cell is fluid."""
        return ~self.solid

    def openness(self, axis: int) -> Mask:
        """Faces 0 .. n along `axis` that fluid can cross: both neighbours fluid, never a wall of the box."""
        fluid = np.moveaxis(self.fluid, axis, 0)
        ends = fluid[:1] & fluid[-1:] if self.grid.axes[axis].periodic else np.zeros_like(fluid[:1])
        return np.moveaxis(np.concatenate([ends, fluid[1:] & fluid[:-1], ends]), 0, axis)

    @cached_property
    def _parts(self) -> tuple[NDArray[np.int32], int]:
        labels, count = label(self.fluid)
        pairs = []
        for axis, line in enumerate(self.grid.axes):
            if line.periodic:
                ends = np.stack([labels.take(0, axis).ravel(), labels.take(-1, axis).ravel()])
                pairs.append(ends[:, ends.all(axis=0)])
        if not pairs or count == 1:
            return labels.astype(np.int32), count
        first, last = np.concatenate(pairs, axis=1) - 1
        joined = coo_array((np.ones(len(first)), (first, last)), shape=(count, count))
        count, merged = connected_components(joined, directed=False)
        return np.concatenate([[0], merged + 1]).astype(np.int32)[labels], int(count)

    @property
    def parts(self) -> NDArray[np.int32]:
        """``(nx, ny, nz)``: 0 in solids, 1 .. part_count in the connected parts of the fluid."""
        return self._parts[0]

    @property
    def part_count(self) -> int:
        """Number of fluid parts that no open face connects."""
        return self._parts[1]
