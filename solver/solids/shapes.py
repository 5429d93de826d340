"""Bodies of simple form, and what every body can say about itself."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from solver.errors import CaseError
from solver.grid.axis import Array

Triple = tuple[float, float, float]
Bounds = tuple[Triple, Triple]
Mask = NDArray[np.bool_]


def words(point: Sequence[float]) -> str:
    """A point as people write it."""
    return "(" + ", ".join(f"{a:.4g}" for a in point) + ")"


class Shape(Protocol):
    """A body: tells which points of a grid, given by lines x, y, z that broadcast, it contains; ``str`` names it."""

    @property
    @abstractmethod
    def bounds(self) -> Bounds:
        """Lower and upper corner of the box around it; infinite where it has no end."""

    @property
    @abstractmethod
    def volume(self) -> float:
        """Enclosed volume: infinite for endless bodies, NaN where nothing is enclosed."""

    @abstractmethod
    def contains(self, x: Array, y: Array, z: Array) -> Mask:
        """True inside or on the surface; broadcast shape of the coordinates."""

    @property
    def thickness(self) -> float:
        """Its least extent."""
        return float(np.subtract(self.bounds[1], self.bounds[0]).min())

    def count(self, x: Array, y: Array, z: Array) -> NDArray[np.int64]:
        """In how many parts of the body each point lies; `volume` counts what parts share as often."""
        return self.contains(x, y, z).astype(np.int64)


@dataclass(frozen=True)
class Box(Shape):
    """Axis-parallel block between two corners."""

    lower: Triple
    upper: Triple

    def __post_init__(self) -> None:
        if not all(a < b for a, b in zip(self.lower, self.upper, strict=True)):
            raise CaseError(f"[solids] box: lower {self.lower} must be below upper {self.upper} in every direction")

    def __str__(self) -> str:
        return f"box from {words(self.lower)} to {words(self.upper)}"

    @property
    def bounds(self) -> Bounds:
        """The corners."""
        return self.lower, self.upper

    @property
    def volume(self) -> float:
        """Product of the sides."""
        return float(np.subtract(self.upper, self.lower).prod())

    def contains(self, x: Array, y: Array, z: Array) -> Mask:
        """True between the corners."""
        (x0, y0, z0), (x1, y1, z1) = self.lower, self.upper
        return (x0 <= x) & (x <= x1) & (y0 <= y) & (y <= y1) & (z0 <= z) & (z <= z1)


@dataclass(frozen=True)
class Sphere(Shape):
    """Ball of `radius` about `centre`."""

    centre: Triple
    radius: float

    def __post_init__(self) -> None:
        _check_radius("sphere", self.radius)

    def __str__(self) -> str:
        return f"sphere of radius {self.radius:.4g} about {words(self.centre)}"

    @property
    def bounds(self) -> Bounds:
        """One radius to every side."""
        (a, b, c), r = self.centre, self.radius
        return (a - r, b - r, c - r), (a + r, b + r, c + r)

    @property
    def volume(self) -> float:
        """``4/3 pi r^3``."""
        return 4.0 / 3.0 * np.pi * self.radius**3

    def contains(self, x: Array, y: Array, z: Array) -> Mask:
        """True within the radius."""
        a, b, c = self.centre
        return (x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2 <= self.radius**2


@dataclass(frozen=True)
class Cylinder(Shape):
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

    def __str__(self) -> str:
        return f"cylinder of radius {self.radius:.4g} along {'xyz'[self.axis]} through {words(self.centre)}"

    @property
    def bounds(self) -> Bounds:
        """One radius across, the ends along."""
        low, high = [a - self.radius for a in self.centre], [a + self.radius for a in self.centre]
        low[self.axis], high[self.axis] = self.lower, self.upper
        return (low[0], low[1], low[2]), (high[0], high[1], high[2])

    @property
    def volume(self) -> float:
        """``pi r^2`` times its length."""
        return np.pi * self.radius**2 * (self.upper - self.lower)

    def contains(self, x: Array, y: Array, z: Array) -> Mask:
        """True within the radius and between the ends."""
        lines = (x, y, z)
        squares = [(lines[d] - self.centre[d]) ** 2 for d in range(3) if d != self.axis]
        along = lines[self.axis]
        return (squares[0] + squares[1] <= self.radius**2) & (self.lower <= along) & (along <= self.upper)


def _check_radius(kind: str, radius: float) -> None:
    if not radius > 0:
        raise CaseError(f"[solids] {kind}: radius = {radius} must be positive")
