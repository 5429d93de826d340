"""What a channel is compared with, and the check of a case's reference tables before a run."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from solver.analysis import metrics
from solver.analysis.wall_view import mirrored, wall_at
from solver.case.case import Case
from solver.errors import CaseError
from solver.files.reference_files import read_reference
from solver.grid.axis import Array, FiniteVolumeAxis, FourierAxis
from solver.grid.grid import Grid

log = logging.getLogger("solver")
PROFILES = tuple(metric.name for metric in metrics.PROFILES)
COVERED = (0.1, 0.5)  # y/h: a profile that begins above the first or ends below the second says nothing of a channel

# spacings in wall units along x and z beyond which v' at y+ 20 is short by a fifth or more: by the spectra of Moser,
# Kim & Mansour 1999 (Phys. Fluids 11, 943), cut off where the grid ends
COARSE = (60.0, 30.0)


@dataclass(frozen=True)
class ChannelReference:
    """A reference table ``y_over_h, y_plus, U_plus, uu_plus, vv_plus, ww_plus, uv_plus`` (wall units, half channel).

    In place of ``uu_plus`` it may have ``u_rms_plus``, and so on. Cells that are NaN are left out of their column;
    everything vanishes at the wall, whether the table says so or not.
    """

    table: dict[str, Array]

    @classmethod
    def read(cls, path: Path) -> ChannelReference:
        """The table in a file, checked.

        Raises
        ------
        CaseError : as `read_reference`; or a column is missing or nearly empty, or covers too little of the channel.
        """
        reference = cls(read_reference(path))
        try:
            heights = [reference.table["y_over_h"][np.isfinite(reference._column(name))] for name in PROFILES]
            wall_units = np.isfinite(reference.table["y_plus"] * reference.table["y_over_h"]).any()
        except KeyError as error:
            raise CaseError(f"{path}: lacks the column {error}: add it") from None
        for name, y in zip(PROFILES, heights, strict=True):
            if len(y) < 2 or y[0] > COVERED[0] or y[-1] < COVERED[1]:
                span = f"y/h from {y[0]:.2g} to {y[-1]:.2g}" if len(y) else "nothing"
                raise CaseError(f"{path}: {name} covers {span}: no overlap with the half channel")
        if not wall_units or not (reference.re_tau > 0 and reference.bulk > 0):
            raise CaseError(f"{path}: y_plus and U_plus should be positive over y_over_h: repair the file")
        return reference

    @property
    def re_tau(self) -> float:
        """Friction Reynolds number."""
        y_over_h, y_plus = self.table["y_over_h"], self.table["y_plus"]
        last = np.flatnonzero(np.isfinite(y_over_h * y_plus))[-1]
        return float(y_plus[last] / y_over_h[last])

    @property
    def bulk(self) -> float:
        """Bulk velocity in wall units."""
        y, u = self._known(self.table["U_plus"])
        nodes = np.append(y[y < 1], 1.0)
        values = np.interp(nodes, y, u)
        return float(np.diff(nodes) @ (values[1:] + values[:-1]) / 2)

    @property
    def c_f(self) -> float:
        """Friction coefficient ``2 / U_b+^2``."""
        return 2 / self.bulk**2

    def profile(self, name: str, y_over_h: Array) -> Array:
        """One of `PROFILES` at the given heights; beyond the last one of the table it is constant."""
        return np.interp(y_over_h, *self._known(self._column(name)))

    def _column(self, name: str) -> Array:
        if name in ("u_mean", "uv"):
            return self.table["U_plus" if name == "u_mean" else "uv_plus"]
        squared, rms = f"{name[0]}{name[0]}_plus", f"{name}_plus"
        return np.sqrt(np.maximum(self.table[squared], 0.0)) if squared in self.table else self.table[rms]

    def _known(self, column: Array) -> tuple[Array, Array]:
        """Heights and values where there are values, from the wall on."""
        y = self.table["y_over_h"]
        known = np.isfinite(y * column) & (y > 0)
        return np.append(0.0, y[known]), np.append(0.0, column[known])


def comparable(grid: Grid) -> bool:
    """Whether a table over the wall distance says anything of a flow: channels and half channels, walls at one speed.

    The cells of both halves are to be the mirror image of each other.
    """
    y = grid.y
    if not isinstance(y, FiniteVolumeAxis) or not (grid.x.is_fourier and grid.z.periodic):
        return False
    walls = [wall for end in (0, 1) if (wall := wall_at(y, end)) is not None]
    return len(walls) == 1 or (len(walls) == 2 and walls[0] == walls[1] and mirrored(y))


def leaves_out_much(grid: Grid, viscous_length: float) -> bool:
    """Whether a grid leaves out so much that stresses of the whole flow say nothing of a simulation on it.

    Where walls are modelled, only the outer layer is judged, whose eddies are as large as a few cells.
    """
    if grid.has_modelled_walls:
        return False
    spacings = [a.length / a.n if isinstance(a, FourierAxis) else float(a.width.max()) for a in (grid.x, grid.z)]
    return any(spacing > limit * viscous_length for spacing, limit in zip(spacings, COARSE, strict=True))


def check_reference(case: Case, folder: Path, grid: Grid) -> None:
    """Read every reference table now: one that cannot be used should not be found out after the run.

    Raises
    ------
    CaseError : see `read_reference` and `ChannelReference.read`.
    """
    if case.reference is None:
        return
    for key, path in case.reference.files(folder).items():
        if key == "profiles" and comparable(grid):
            ChannelReference.read(path)
        elif key != "filtered":
            read_reference(path)
        if key == "profiles" and not comparable(grid):
            log.warning("[reference] profiles = '%s': no channel or half channel: nothing is compared", path.name)


@dataclass(frozen=True)
class RunReference(ChannelReference):
    """The means of a run as a reference table; its bulk velocity is the sum over its cells."""

    bulk_plus: float

    @property
    def bulk(self) -> float:
        """Bulk velocity in wall units."""
        return self.bulk_plus
