"""Bodies from files: closed surfaces, and terrain or buildings that stand on the floor."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from solver.errors import CaseError
from solver.grid.axis import Array
from solver.solids.shapes import Bounds, Mask, Shape, Triple
from solver.solids.surface_files import Triangles, Vertices, read_triangles
from solver.solids.winding import Body, Edges, heights, weld

WELD = 1e-5  # of the diagonal: corners closer than this are one


@dataclass(frozen=True)
class Surface(Shape):
    """Body bounded by the triangles of a file, whatever pyvista or meshio reads.

    Parts that overlap are united, parts that touch may share edges or faces, and a part that faces inward within
    another is a cavity. Corners are welded within 1e-5 of the size.

    Parameters
    ----------
    path : the file.
    scale, shift : points are multiplied by `scale` and then moved by `shift`.
    up : the axis of the file that points away from the floor; z is turned to y, and y to -z.
    close : None for closed surfaces, "ground" to fill every column of cells from the highest triangle down to the
        floor: for open terrain, buildings without a bottom, and whatever else is only seen from above.

    Raises
    ------
    CaseError : the file cannot be read, or the surface encloses nothing.
    FeatureUnavailable : pyvista is not installed.
    """

    path: Path
    scale: float = 1.0
    shift: Triple = (0.0, 0.0, 0.0)
    up: Literal["y", "z"] = "y"
    close: Literal["ground"] | None = None

    def __str__(self) -> str:
        return f"surface {self.path}"

    @cached_property
    def triangles(self) -> tuple[Vertices, Triangles]:
        """Welded corners where the case puts them, and triangles.

        Raises
        ------
        CaseError : all of them are without area.
        """
        points, faces = read_triangles(Path(self.path))
        if self.up == "z":
            points = points[:, [0, 2, 1]] * (1.0, 1.0, -1.0)
        points = points * self.scale + np.asarray(self.shift)
        points, faces = weld(points, faces, WELD * float(np.linalg.norm(np.ptp(points[faces.ravel()], axis=0))))
        if not len(faces):
            raise CaseError(f"[solids] {self}: all its triangles are without area: export it again")
        return points, faces

    @property
    def bounds(self) -> Bounds:
        """Lower and upper corner of the box around it."""
        points, faces = self.triangles
        low, high = points[faces].min(axis=(0, 1)).tolist(), points[faces].max(axis=(0, 1)).tolist()
        return (low[0], low[1], low[2]), (high[0], high[1], high[2])

    @cached_property
    def body(self) -> Body:
        """What the triangles enclose.

        Raises
        ------
        CaseError : they enclose nothing.
        """
        points, faces = self.triangles
        shared = Edges.of(faces).shared
        alone, odd = int((shared == 1).sum()), int(((shared > 1) & (shared % 2 == 1)).sum())
        if alone or odd:
            knots = f" and {odd} non-manifold edges, where an odd number of triangles meet" if odd else ""
            raise CaseError(
                f"[solids] {self}: {len(faces)} triangles with {alone} open edges{knots} do not enclose a body: close "
                "the surface, or set close = 'ground' for terrain and buildings that stand on the floor"
            )
        return Body(points, faces)

    @property
    def volume(self) -> float:
        """Enclosed volume, what parts share counted for each; NaN for what the floor closes."""
        return np.nan if self.close else self.body.volume

    @property
    def thickness(self) -> float:
        """Of a plate with this volume and area."""
        return np.inf if self.close else 2.0 * self.body.volume / self.body.area

    def contains(self, x: Array, y: Array, z: Array) -> Mask:
        """True for points of a grid, given by lines, that are enclosed."""
        return self.count(x, y, z) > 0

    def count(self, x: Array, y: Array, z: Array) -> NDArray[np.int64]:
        """In how many parts of the body each point of a grid lies, given by lines along x, y, z."""
        lines = [np.asarray(line, dtype=np.float64).ravel() for line in (x, y, z)]
        found = np.zeros([len(line) for line in lines], dtype=np.int64)
        low, high = self.bounds
        if self.close:
            low = (low[0], -np.inf, low[2])
        near = [np.flatnonzero((a <= line) & (line <= b)) for a, line, b in zip(low, lines, high, strict=True)]
        x, y, z = (line[at] for line, at in zip(lines, near, strict=True))
        if min(map(len, near)) == 0:
            return found
        if self.close:
            found[np.ix_(*near)] = y[:, None] <= heights(*self.triangles, x, z)[:, None, :]
        else:
            found[np.ix_(*near)] = self.body.winding(x, y, z)
        return found
