"""A reference table of the section of a square duct, and how far a duct is from it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from solver.analysis.batch_means import Array
from solver.analysis.duct import Duct
from solver.errors import CaseError
from solver.files.reference_files import read_reference, read_text

NEAREST = 0.05  # distance from the corner over h from which on wall stress is judged: nearer, it vanishes
ERRORS = ("c_f", "wall_stress", "u", "secondary_flow")


@dataclass(frozen=True)
class DuctReference:
    """A quarter of a square duct: U, V, W over the bulk velocity on lines of y and z, over h, from the corner on.

    Parameters
    ----------
    places : of the lines, the same along y and z.
    velocity : (3, places, places), symmetrised about the bisector of the corner.
    re_bulk : ``2 h U_b / nu``.
    """

    places: Array
    velocity: Array
    re_bulk: float

    @classmethod
    def read(cls, path: Path) -> DuctReference:
        """A table with columns y_over_h, z_over_h, U and, of use, V and W, on a square of lines.

        Raises
        ------
        CaseError : it cannot be read, is no square of lines, or its first lines name no Reynolds number.
        """
        table = read_reference(path)
        missing = {"y_over_h", "z_over_h", "U"} - table.keys()
        if missing:
            raise CaseError(f"{path}: no column '{min(missing)}': a section has y_over_h, z_over_h, U, and V and W")
        y, z = np.unique(table["y_over_h"]), np.unique(table["z_over_h"])
        if len(y) * len(z) != len(table["U"]) or not np.array_equal(y, z):
            raise CaseError(f"{path}: should have a row for every pair of the same values of y_over_h and z_over_h")
        found = re.search(r"Re_b = 2 h U_b/nu = ([0-9.]+[0-9])", read_text(path))
        if found is None:
            raise CaseError(f"{path}: its comments name no 'Re_b = 2 h U_b/nu = NUMBER': add that line")
        u, v, w = (table.get(name, np.zeros(len(y) ** 2)).reshape(len(y), len(y)) for name in "UVW")
        return cls(y, np.stack([0.5 * (u + u.T), 0.5 * (v + w.T), 0.5 * (w + v.T)]), float(found[1]))

    @property
    def nu(self) -> float:
        """Viscosity over ``h U_b``."""
        return 2.0 / self.re_bulk

    @property
    def stress(self) -> Array:
        """Of the wall at the `places`, over U_b^2: from the first line, deep in the viscous layer."""
        stress: Array = self.nu * self.velocity[0, 0] / self.places[0]
        return stress

    @property
    def mean_stress(self) -> float:
        """Its mean over the wall."""
        z, tau = np.r_[0.0, self.places, 1.0], self.stress
        return float(np.trapezoid(np.r_[0.0, tau, tau[-1]], z))

    @property
    def c_f(self) -> float:
        """``2 tau / U_b^2`` of the mean stress."""
        return 2.0 * self.mean_stress

    @property
    def secondary_flow(self) -> float:
        """The greatest ``sqrt(V^2 + W^2) / U_b``."""
        _, v, w = self.velocity
        return float(np.sqrt(v * v + w * w).max())

    def wall_stress(self, places: Array) -> Array:
        """The stress over its mean at distances over h from the corner."""
        return np.interp(places, self.places, self.stress) / self.mean_stress

    def at(self, places: Array) -> Array:
        """U, V, W at a square of places, (3, n, n), linear between the lines."""

        def between(f: Array) -> Array:
            return np.stack([np.interp(places, self.places, line) for line in f.T], axis=1)

        return np.stack([between(between(f).T).T for f in self.velocity])


def errors(duct: Duct, reference: DuctReference, means: Array) -> Array:
    """`ERRORS`: of C_f, relative; of the wall stress over its mean, the greatest relative one at a centre; of U, rms
    over the section, and of the greatest secondary flow, both over the bulk velocity.
    """
    judged = duct.places >= NEAREST * (1 - 1e-9)
    found, expected = (f[judged] for f in (duct.wall_stress(means), reference.wall_stress(duct.places)))
    area = np.outer(*(2 * (duct.y.width[: len(duct.places)],)))
    u = duct.quarter(means)[0] - reference.at(duct.places)[0]
    return np.array(
        [
            duct.scalars(means)[4] / reference.c_f - 1.0,
            np.abs(found / expected - 1.0).max(),
            np.sqrt((u * u * area).sum() / area.sum()),
            duct.secondary_flow(means)[0] - reference.secondary_flow,
        ]
    )
