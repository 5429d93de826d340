"""What triangles enclose: the number of times they wind around points, found along columns of y.

A point is inside if the triangles above it face down and up unequally often. Overlapping parts then unite, parts that
touch need no care, and a part that faces inward is a cavity. All that is asked is that no edge is left open.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Array = NDArray[np.float64]
Index = NDArray[np.int64]
AT_ONCE = 2_000_000  # pairs of a triangle and a column
SAMPLE = 50  # corners that tell whether a part lies within others
ASIDE = 1e-7  # of the size: where a column goes that rounding has let through an edge


def weld(points: Array, faces: Index, tolerance: float) -> tuple[Array, Index]:
    """Corners closer than `tolerance` become one; triangles that lose a corner go."""
    from scipy.spatial import cKDTree  # dear, and asked for by surfaces alone

    points, same = np.unique(points, axis=0, return_inverse=True)
    faces = same.reshape(-1)[faces]
    _, group = _joined(len(points), cKDTree(points).query_pairs(tolerance, output_type="ndarray"))
    _, first = np.unique(group, return_index=True)
    faces = group[faces]
    a, b, c = faces.T
    return points[first], faces[(a != b) & (b != c) & (c != a)]


def _joined(count: int, pairs: Index) -> tuple[int, Index]:
    """Number of groups that pairs make of `count` things, and the group of each."""
    graph = coo_array((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    groups, label = connected_components(graph, directed=False)
    return int(groups), label.astype(np.int64)


@dataclass(frozen=True, eq=False)
class Edges:
    """The edges of triangles: for each of the three of each triangle the number of the edge, and which way it runs.

    Parameters
    ----------
    number : (3 m), triangle after triangle.
    way : (3 m), 1 from the smaller corner to the greater, else -1.
    """

    number: Index
    way: Index

    @classmethod
    def of(cls, faces: Index) -> Edges:
        """The edges ab, bc, ca of each triangle."""
        start, end = faces.ravel(), faces[:, [1, 2, 0]].ravel()
        key = np.minimum(start, end) * (faces.max() + 1) + np.maximum(start, end)
        return cls(np.unique(key, return_inverse=True)[1].reshape(-1), np.where(start < end, 1, -1))

    @cached_property
    def shared(self) -> Index:
        """How many triangles share each edge."""
        return np.bincount(self.number)

    @cached_property
    def balanced(self) -> NDArray[np.bool_]:
        """Edges that run as often one way as the other."""
        even: NDArray[np.bool_] = np.bincount(self.number, self.way) == 0
        return even

    @cached_property
    def neighbours(self) -> Index:
        """(k, 2): places in `number` of the same edge, each with the next one."""
        order = np.argsort(self.number, kind="stable")
        same = np.flatnonzero(self.number[order][1:] == self.number[order][:-1])
        return np.stack([order[same], order[same + 1]], axis=1)


def oriented(faces: Index) -> Index:
    """Triangles turned so that neighbours across an edge of two run it in opposite ways; as few as possible."""
    edges, m = Edges.of(faces), len(faces)
    if edges.balanced.all():
        return faces
    pairs = edges.neighbours[edges.shared[edges.number[edges.neighbours[:, 0]]] == 2]
    f, g = (pairs // 3).T
    turned = m * (edges.way[pairs[:, 0]] == edges.way[pairs[:, 1]])
    _, sheet = _joined(2 * m, np.concatenate([np.stack([f, g + turned], 1), np.stack([f + m, g + m - turned], 1)]))
    as_given = np.bincount(sheet[:m], minlength=sheet.max() + 1)
    mine, other = sheet[:m], sheet[m:]
    flip = (as_given[mine] < as_given[other]) | ((as_given[mine] == as_given[other]) & (mine > other))
    return np.where(flip[:, None], faces[:, ::-1], faces)


class Body:
    """What closed triangles enclose.

    Parameters
    ----------
    points, faces : (n, 3) corners and (m, 3) triangles, welded; every edge belongs to an even number of triangles.
    """

    def __init__(self, points: Array, faces: Index) -> None:
        self.points, faces = points, oriented(faces)
        edges = Edges.of(faces)
        count, part = _joined(len(faces), edges.neighbours // 3)
        crooked = np.zeros(count, dtype=bool)  # no way to orient them: inside is where a column crosses an odd number
        crooked[part[np.arange(len(edges.number)) // 3][~edges.balanced[edges.number]]] = True
        self.crooked = [faces[part == p] for p in np.flatnonzero(crooked)]
        self.faces = self._outward(faces[~crooked[part]], part[~crooked[part]])

    def _outward(self, faces: Index, part: Index) -> Index:
        """Parts turned outward, but for those that face inward within another."""
        if not len(faces):
            return faces
        volumes = np.bincount(part, self._volumes(faces))
        if volumes.sum() < 0:
            faces, volumes = faces[:, ::-1], -volumes
        outer = volumes[part] > 0
        for p in np.flatnonzero(volumes < 0):
            if not self._holds(faces[outer], np.unique(faces[part == p])):
                faces = np.where((part == p)[:, None], faces[:, ::-1], faces)
        return faces

    def _holds(self, faces: Index, corners: Index) -> bool:
        """Whether triangles enclose all of some corners (a sample of many)."""
        sample = self.points[corners[:: -(-len(corners) // SAMPLE)]]
        return all(winding(self.points, faces, *p[:, None]).item() for p in sample)

    def _volumes(self, faces: Index) -> Array:
        a, b, c = (self.points - self.points.mean(axis=0))[faces].swapaxes(0, 1)
        volumes: Array = np.einsum("ij,ij->i", a, np.cross(b, c)) / 6.0
        return volumes

    @cached_property
    def volume(self) -> float:
        """Enclosed volume; what parts share counts for each of them."""
        return float(self._volumes(self.faces).sum() + sum(abs(self._volumes(f).sum()) for f in self.crooked))

    @cached_property
    def area(self) -> float:
        """Of all triangles."""
        a, b, c = self.points[np.concatenate([self.faces, *self.crooked])].swapaxes(0, 1)
        return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2.0)

    def winding(self, x: Array, y: Array, z: Array) -> Index:
        """How many parts each point of the grid of three lines lies in, (nx, ny, nz)."""
        total = np.abs(winding(self.points, self.faces, x, y, z))
        for part in self.crooked:
            total += winding(self.points, part, x, y, z, parity=True)
        return total


def winding(points: Array, faces: Index, x: Array, y: Array, z: Array, parity: bool = False) -> Index:
    """Winding number of triangles about the points of a grid, (nx, ny, nz); or the parity of their crossings."""
    shape = (len(x), len(y) + 1, len(z))

    def steps(faces: Index, x: Array, z: Array) -> Index:
        i, k, height, sign = crossings(points, faces, x, z)
        at = np.ravel_multi_index((i, np.searchsorted(y, height), k), (len(x), shape[1], len(z)))
        jumps = np.bincount(at, np.ones_like(sign) if parity else sign, minlength=len(x) * shape[1] * len(z))
        return jumps.reshape(len(x), shape[1], len(z)).astype(np.int64)

    def leaks(jumps: Index) -> NDArray[np.bool_]:
        left = jumps.sum(axis=1)
        open_ended: NDArray[np.bool_] = left % 2 != 0 if parity else left != 0
        return open_ended

    found = steps(faces, x, z)
    size = float(np.ptp(points, axis=0).max())
    for attempt in (1, 2, 3):
        for i, k in np.argwhere(leaks(found)):
            found[i, :, k] = steps(faces, x[i : i + 1] + attempt * ASIDE * size, z[k : k + 1] + ASIDE * size)[0, :, 0]
    inside = np.cumsum(found, axis=1)[:, :-1]
    return inside % 2 if parity else inside


def heights(points: Array, faces: Index, x: Array, z: Array) -> Array:
    """The highest triangle over each column, (nx, nz); minus infinity where there is none."""
    i, k, height, _ = crossings(points, faces, x, z)
    top = np.full((len(x), len(z)), -np.inf)
    np.maximum.at(top, (i, k), height)
    return top


def crossings(points: Array, faces: Index, x: Array, z: Array) -> tuple[Index, Index, Array, Array]:
    """Where columns through (x_i, z_k) pass triangles: i, k, the height y, and 1 if from below they enter, else -1."""
    corners = points[faces][:, :, [0, 2]]
    low, high = corners.min(axis=1), corners.max(axis=1)
    first = np.stack([np.searchsorted(line, low[:, d]) for d, line in enumerate((x, z))], axis=1)
    last = np.stack([np.searchsorted(line, high[:, d], "right") for d, line in enumerate((x, z))], axis=1)
    size = last - first
    near = np.flatnonzero(size.prod(axis=1))
    bounds = np.cumsum(size[near].prod(axis=1))
    found = []
    for group in np.split(near, np.flatnonzero(np.diff(bounds // AT_ONCE)) + 1):
        count = size[group].prod(axis=1)
        t = np.repeat(group, count)
        place = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        i, k = first[t, 0] + place // size[t, 1], first[t, 1] + place % size[t, 1]
        found.append(_hits(points, faces[t], i, k, x[i], z[k]))
    i, k, height, way = zip(*found, strict=True)
    return np.concatenate(i), np.concatenate(k), np.concatenate(height), np.concatenate(way)


def _hits(points: Array, faces: Index, i: Index, k: Index, x: Array, z: Array) -> tuple[Index, Index, Array, Array]:
    """Of pairs of a triangle and a column, those that meet: see `crossings`."""
    sides = [_side(points, faces[:, n - 2], faces[:, n - 1], x, z) for n in range(3)]  # opposite to corner n
    signs = np.stack([sign for _, sign in sides])
    hit = np.flatnonzero(np.abs(signs.sum(axis=0)) == 3)
    weight = np.stack([area[hit] for area, _ in sides])
    flat = weight.sum(axis=0) == 0
    weight[:, flat] = 1.0
    height = (weight * points[faces[hit].T, 1]).sum(axis=0) / weight.sum(axis=0)
    return i[hit], k[hit], height, signs[0, hit]


def _side(points: Array, a: Index, b: Index, x: Array, z: Array) -> tuple[Array, Array]:
    """Twice the area that a column spans with an edge seen from above, and its sign; never 0.

    Both triangles of an edge reckon it from the same end, so that rounding lets no column slip between them. Where the
    column meets the edge it counts as shifted by e along x and e^2 along z, for an infinitesimal e.
    """
    way = np.where(a < b, 1.0, -1.0)
    p, q = points[np.minimum(a, b)], points[np.maximum(a, b)]
    dx, dz = q[:, 0] - p[:, 0], q[:, 2] - p[:, 2]
    area = dx * (z - p[:, 2]) - dz * (x - p[:, 0])
    sign = np.sign(np.where(area != 0, area, np.where(dz != 0, -dz, dx)))
    return way * area, way * sign
