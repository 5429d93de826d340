"""Ducts, whose means depend on y and z: wall units from the mean stress over the walls, and the section of a square."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from solver.analysis.batch_means import Array
from solver.analysis.moments import INDEX
from solver.analysis.wall_view import mirrored, wall_at
from solver.grid.axis import FiniteVolumeAxis


@dataclass(frozen=True)
class Duct:
    """Evaluates means ``(len(NAMES), ny, nz)`` between walls at rest in y and z, or in one of them.

    ``h`` is half the hydraulic diameter 4 area / wetted perimeter: the half side of a square.
    """

    y: FiniteVolumeAxis
    z: FiniteVolumeAxis
    nu: float

    @cached_property
    def _walls(self) -> list[tuple[int, int]]:
        """Axis across, 0 for y and 1 for z, and end of every wall."""
        return [(k, end) for k, axis in enumerate((self.y, self.z)) for end in (0, 1) if wall_at(axis, end) is not None]

    @cached_property
    def half_width(self) -> float:
        """H."""
        perimeter = sum((self.z, self.y)[k].length for k, _ in self._walls)
        return 2 * self.y.length * self.z.length / perimeter

    @cached_property
    def is_square(self) -> bool:
        """Whether the section is a square with walls all around, and so are its cells under all its symmetries."""
        same = len(self.y.width) == len(self.z.width) and np.allclose(self.y.width, self.z.width, rtol=1e-9)
        return len(self._walls) == 4 and bool(same) and mirrored(self.y)

    def stresses(self, means: Array) -> list[Array]:
        """The stress along x on each wall at the centres along it, of its model or as the discretisation sees it."""
        found = []
        for k, end in self._walls:
            u, flux = means[INDEX["u"]], means[INDEX[("wall_flux_xy", "wall_flux_xz")[k]]]
            rows, fluxes = (u.T, flux.T) if k else (u, flux)
            beyond = fluxes[-1] if end else -fluxes[0]  # of a wall model
            found.append(self.nu * rows[-end] / (0.5 * (self.y, self.z)[k].width[-end]) + beyond)
        return found

    def scalars(self, means: Array) -> Array:
        """``u_tau, bulk velocity, re_tau, re_bulk (2 h U_b / nu), c_f (2 u_tau^2 / U_b^2)``.

        u_tau^2 is the mean over the perimeter of the stress along x.
        """
        along = [(self.z, self.y)[k] for k, _ in self._walls]
        force = sum(float((tau * a.width).sum()) for tau, a in zip(self.stresses(means), along, strict=True))
        h, bulk = self.half_width, self.bulk(means)
        u_tau = float(np.sqrt(abs(force) / sum(a.length for a in along)))
        c_f = 2 * (u_tau / (bulk or np.nan)) ** 2
        return np.array([u_tau, bulk, u_tau * h / self.nu, 2 * h * abs(bulk) / self.nu, c_f])

    def bulk(self, means: Array) -> float:
        """Mean velocity along x over the section."""
        weights = self.y.width[:, None] * self.z.width
        return float((means[INDEX["u"]] * weights).sum() / weights.sum())

    @cached_property
    def places(self) -> Array:
        """Of a square: distances of the centres from the nearer side wall, over h, in one half."""
        distance: Array = (self.y.centres - self.y.faces[0]) / self.half_width
        return distance[: (self.y.n + 1) // 2]

    def wall_stress(self, means: Array) -> Array:
        """Of a square: the stress at `places` over its mean, averaged over the eight halves of the walls."""
        tau = np.mean(self.stresses(means), axis=0)
        halves = 0.5 * (tau + tau[::-1])
        shares: Array = halves[: len(self.places)] * self.y.length / (float((tau * self.y.width).sum()) or np.nan)
        return shares

    def quarter(self, means: Array) -> Array:
        """Of a square: U, V and W over the bulk velocity in a quarter, (3, places, places), all symmetries averaged.

        The corner is first; V and W point away from the walls that meet there.
        """
        u, v, w = means[[INDEX[name] for name in "uvw"]] / (self.bulk(means) or np.nan)
        u, v, w = _folded(u, 1.0, 1.0), _folded(v, -1.0, 1.0), _folded(w, 1.0, -1.0)
        return np.stack([0.5 * (u + u.T), 0.5 * (v + w.T), 0.5 * (w + v.T)])

    def secondary_flow(self, means: Array) -> Array:
        """Of a square: the greatest ``sqrt(V^2 + W^2) / U_b`` at a centre, (1,)."""
        _, v, w = self.quarter(means)
        return np.array([np.sqrt(v * v + w * w).max()])


def _folded(f: Array, along_y: float, along_z: float) -> Array:
    """The quarter at the first corner, averaged with the other three, which a reflection multiplies by these signs."""
    f = 0.5 * (f + along_y * f[::-1])
    f = 0.5 * (f + along_z * f[:, ::-1])
    return f[: (f.shape[0] + 1) // 2, : (f.shape[1] + 1) // 2]
