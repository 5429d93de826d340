"""Wall units of ducts, whose means depend on y and z: from the mean stress over the walls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from solver.analysis.batch_means import Array
from solver.analysis.moments import INDEX
from solver.analysis.wall_view import wall_at
from solver.grid.axis import FiniteVolumeAxis


@dataclass(frozen=True)
class Duct:
    """Evaluates means ``(len(NAMES), ny, nz)`` between walls at rest in y and z, or in one of them.

    ``h`` is half the hydraulic diameter 4 area / wetted perimeter: the half side of a square.
    """

    y: FiniteVolumeAxis
    z: FiniteVolumeAxis
    nu: float

    def scalars(self, means: Array) -> Array:
        """``u_tau, bulk velocity, re_tau, re_bulk (2 h U_b / nu), c_f (2 u_tau^2 / U_b^2)``.

        u_tau^2 is the mean over the perimeter of the stress along x, as the discretisation sees it.
        """
        u = means[INDEX["u"]]
        force, perimeter = 0.0, 0.0
        to_y, to_z = means[INDEX["wall_flux_xy"]], means[INDEX["wall_flux_xz"]]
        for axis, along, rows, fluxes in ((self.y, self.z, u, to_y), (self.z, self.y, u.T, to_z.T)):
            for end in (0, 1):
                if wall_at(axis, end) is not None:
                    beyond = fluxes[-1] if end else -fluxes[0]  # of a wall model
                    stress = self.nu * rows[-end] / (0.5 * axis.width[-end]) + beyond
                    force += float((stress * along.width).sum())
                    perimeter += along.length
        area = self.y.length * self.z.length
        bulk = float((u * self.y.width[:, None] * self.z.width).sum()) / area
        u_tau, h = float(np.sqrt(abs(force) / perimeter)), 2 * area / perimeter
        c_f = 2 * (u_tau / (bulk or np.nan)) ** 2
        return np.array([u_tau, bulk, u_tau * h / self.nu, 2 * h * abs(bulk) / self.nu, c_f])
