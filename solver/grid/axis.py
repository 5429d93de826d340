"""One direction of a grid: `FourierAxis` (spectral, periodic) or `FiniteVolumeAxis` (staggered cells).

A velocity component is staggered along its own axis only where that axis is finite-volume, and is then stored
at the *upper* face of each cell.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from ducc0.fft import good_size
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal

from solver.errors import CaseError

Array = NDArray[np.float64]
Dealias = Literal["3/2", "2/3"]


@dataclass(frozen=True)
class FourierAxis:
    """Periodic direction of `length`, products formed without aliasing into the retained modes.

    Parameters
    ----------
    n : number of points the user asked for.
    length : period.
    dealias : ``"3/2"`` retains the ``n`` modes and forms products on at least ``3n/2`` points;
        ``"2/3"`` forms products on the ``n`` points and retains ``|k| < n/3`` (Orszag 1971).
    """

    n: int
    length: float
    dealias: Dealias = "3/2"

    is_fourier = True
    is_open = False
    periodic = True
    uniform = True

    def __post_init__(self) -> None:
        if self.n < 1 or not self.length > 0:
            raise CaseError(
                f"[grid] a Fourier axis needs n >= 1 and length > 0, got n = {self.n}, length = {self.length}"
            )

    @cached_property
    def highest_mode(self) -> int:
        """Largest retained mode index; the Nyquist mode is never kept."""
        return (self.n - 1) // (3 if self.dealias == "2/3" else 2)

    @cached_property
    def points(self) -> int:
        """Points on which products are formed: more than ``3 highest_mode``, so quadratic aliasing is harmless."""
        return self.n if self.dealias == "2/3" else int(good_size(3 * self.highest_mode + 1, True))

    @property
    def resolution(self) -> float:
        """Effective spacing of the retained modes: what a filter width is made of."""
        return self.length / (2 * self.highest_mode + 1) if self.n > 1 else self.length

    @property
    def width(self) -> Array:
        """Distance between the points on which products are formed, one entry a point."""
        return np.full(self.points, self.length / self.points)

    @property
    def centres(self) -> Array:
        """Point coordinates."""
        return np.linspace(0.0, self.length, self.points, endpoint=False)

    def wavenumbers(self, half: bool) -> Array:
        """Retained wavenumbers: ``0 .. K`` (half) or ``0 .. K, -K .. -1``."""
        positive = np.arange(self.highest_mode + 1)
        index = positive if half else np.concatenate([positive, -positive[:0:-1]])
        return np.asarray(index * (2 * np.pi / self.length), dtype=np.float64)


@dataclass(frozen=True)
class Periodic:
    """The two ends of the axis are the same face."""


@dataclass(frozen=True)
class FreeSlip:
    """Impermeable, without shear stress."""


@dataclass(frozen=True)
class NoSlip:
    """Impermeable wall moving in its own plane with ``velocity`` (u, v, w).

    Where its friction is `modelled` (`solver.flow.wall_stress`) the cells do not resolve the wall: gradients beside it
    are taken from inside.
    """

    velocity: tuple[float, float, float] = (0.0, 0.0, 0.0)
    modelled: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class Inflow:
    """Fluid enters with `velocity` (u, v, w), u times a profile in y.

    Parameters
    ----------
    velocity : the bulk velocity that enters.
    profile : "uniform", "parabolic" (plane Poiseuille flow between the ends of y, of mean 1), or pairs (y, factor)
        between which the factor varies linearly.
    """

    velocity: tuple[float, float, float]
    profile: Literal["uniform", "parabolic"] | tuple[tuple[float, float], ...] = "uniform"

    def __post_init__(self) -> None:
        if not self.velocity[0] > 0:
            raise CaseError(
                f"[grid.x] lower: inflow velocity = {self.velocity}: its first component should be positive"
            )

    def factor(self, faces: Array) -> Array:
        """What u is multiplied by in the cells between the `faces` of y; a parabola is averaged over each cell."""
        if self.profile == "uniform":
            return np.ones(len(faces) - 1)
        if self.profile == "parabolic":
            xi = (faces - faces[0]) / (faces[-1] - faces[0])
            factors: Array = np.diff(3.0 * xi**2 - 2.0 * xi**3) / np.diff(xi)
            return factors
        y, factor = np.array(self.profile, dtype=np.float64).T
        given: Array = np.interp(0.5 * (faces[1:] + faces[:-1]), y, factor)
        return given


@dataclass(frozen=True)
class Outflow:
    """Fluid leaves: whatever it carries is convected out."""


Boundary = Periodic | FreeSlip | NoSlip | Inflow | Outflow


@dataclass(frozen=True, eq=False)
class FiniteVolumeAxis:
    """Cells between the `faces` (n + 1 increasing coordinates); second-order central, any stretching."""

    faces: Array
    lower: Boundary
    upper: Boundary

    is_fourier = False

    def __post_init__(self) -> None:
        if len(self.faces) < 3 or not np.all(np.diff(self.faces) > 0):
            raise CaseError("[grid] a finite-volume axis needs at least two cells and increasing face coordinates")
        if isinstance(self.lower, Periodic) != isinstance(self.upper, Periodic):
            raise CaseError(
                "[grid] 'periodic' must be both ends of an axis: set lower = upper = 'periodic', or neither"
            )
        if isinstance(self.lower, Outflow) or isinstance(self.upper, Inflow):
            raise CaseError(
                "[grid] fluid enters at the lower end of an axis and leaves at the upper end: exchange the two"
            )
        if isinstance(self.lower, Inflow) != isinstance(self.upper, Outflow):
            raise CaseError("[grid] 'inflow' as lower end of an axis needs 'outflow' as its upper end, and back")

    @property
    def periodic(self) -> bool:
        """True where the first and the last face coincide."""
        return isinstance(self.lower, Periodic)

    @property
    def is_open(self) -> bool:
        """True where fluid enters at the lower end and leaves at the upper one."""
        return isinstance(self.lower, Inflow)

    @property
    def n(self) -> int:
        """Number of cells."""
        return len(self.faces) - 1

    points = n

    @cached_property
    def length(self) -> float:
        """Distance between the end faces."""
        return float(self.faces[-1] - self.faces[0])

    @property
    def centres(self) -> Array:
        """Cell centres, midway between faces."""
        return 0.5 * (self.faces[1:] + self.faces[:-1])

    @property
    def width(self) -> Array:
        """Cell heights."""
        return np.diff(self.faces)

    resolution = width

    @cached_property
    def uniform(self) -> bool:
        """True where all cells are equal to round-off."""
        return bool(np.ptp(self.width) < 1e-12 * self.length)

    @cached_property
    def padded_width(self) -> Array:
        """Cell heights with one ghost cell at each end (mirror image at walls), length n + 2."""
        width = self.width
        ends = (width[-1], width[0]) if self.periodic else (width[0], width[-1])
        return np.concatenate([[ends[0]], width, [ends[1]]])

    @cached_property
    def spacing(self) -> Array:
        """Centre-to-centre distances over the faces 0 .. n (ghost centres at the ends), length n + 1."""
        return 0.5 * (self.padded_width[1:] + self.padded_width[:-1])

    @cached_property
    def coupling(self) -> Array:
        """By which cells meet in div grad over the faces 0 .. n, 1 / spacing; 0 at walls."""
        return np.pad(np.ones(self.n - 1), 1, constant_values=float(self.periodic)) / self.spacing

    @cached_property
    def laplacian(self) -> tuple[Array, Array]:
        """Eigenvalues (<= 0) and vectors of div grad at cell centres, zero normal gradient at walls.

        Returns ``(values, Q)`` with ``L = W^-1/2 Q diag(values) Q^T W^1/2``, W the cell heights: the symmetric
        form keeps the eigenvectors orthogonal to round-off on any stretching.
        """
        return self.laplacian_within(slice(0, self.n))

    def laplacian_within(self, cells: slice) -> tuple[Array, Array]:
        """`laplacian` of functions that vanish in all cells but these neighbours."""
        width, lower, upper = self.width[cells], self.coupling[cells], self.coupling[1:][cells]
        diagonal, off = -(lower + upper) / width, upper[:-1] / np.sqrt(width[1:] * width[:-1])
        if not self.periodic or len(width) < self.n:
            found: tuple[Array, Array] = eigh_tridiagonal(diagonal, off)
            return found
        matrix = np.diag(diagonal) + np.diag(off, 1) + np.diag(off, -1)
        for ends in ((0, -1), (-1, 0)):
            matrix[ends] += lower[0] / np.sqrt(width[0] * width[-1])
        return np.linalg.eigh(matrix)


Axis = FourierAxis | FiniteVolumeAxis


def stretched_faces(n: int, lower: float, upper: float, stretching: float) -> Array:
    """Faces clustered at both ends: ``tanh(stretching xi) / tanh(stretching)``, uniform for 0.

    Examples
    --------
    >>> stretched_faces(4, 0.0, 2.0, 1.5).round(3)
    array([0.   , 0.298, 1.   , 1.702, 2.   ])
    """
    xi = np.linspace(-1.0, 1.0, n + 1)
    shape = np.tanh(stretching * xi) / np.tanh(stretching) if stretching > 0 else xi
    faces = 0.5 * (lower + upper) + 0.5 * (upper - lower) * 0.5 * (shape - shape[::-1])
    faces[0], faces[-1] = lower, upper
    return faces


def focused_faces(n: int, lower: float, upper: float, focus: tuple[float, float], growth: float) -> Array:
    """Faces of n cells, equal within `focus`; beyond it each is about `growth` times its neighbour towards the focus.

    The cell size is ``h + (growth - 1) d`` at the distance d from the focus; h follows from n.

    Examples
    --------
    >>> focused_faces(6, 0.0, 4.0, (1.0, 2.0), 1.2).round(2)
    array([0.  , 0.69, 1.27, 1.83, 2.42, 3.13, 4.  ])
    """
    from scipy.optimize import brentq  # dear, and asked for by grids with a focus alone

    first, last = focus
    rate, inside = growth - 1.0, last - first
    before, after = first - lower, upper - last

    def cells(h: float, distance: float) -> float:
        return float(np.log1p(rate * distance / h)) / rate if rate > 0 else distance / h

    def excess(log_h: float) -> float:
        h = float(np.exp(log_h))
        return cells(h, before) + inside / h + cells(h, after) - n

    largest = float(np.log(upper - lower))
    h = float(np.exp(brentq(excess, largest - 40.0, largest, xtol=1e-14)))
    xi = np.arange(n + 1) - cells(h, before)  # counted from the beginning of the focus
    beyond = xi - inside / h

    def distance(count: Array) -> Array:
        return h * np.expm1(rate * count) / rate if rate > 0 else h * count

    outside = np.where(xi < 0, first - distance(np.maximum(-xi, 0.0)), last + distance(np.maximum(beyond, 0.0)))
    faces = np.where((xi >= 0) & (beyond <= 0), first + h * xi, outside)
    faces[0], faces[-1] = lower, upper
    return faces
