"""From accumulated means of a scalar to what it is judged by: heat transfer, profiles in wall units, errors.

Each wall sees the scalar from its own value there, and walls that see the same are averaged. What leaves the fluid
through a wall is counted positive; ``s_tau``, that flux over the friction velocity, is the unit. With the flux into
the fluid given, the value at the wall is that of the first cell and the slope there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from solver.analysis.batch_means import Array
from solver.analysis.wall_flow import WallFlow
from solver.analysis.wall_view import mirrored, wall_at
from solver.case.scalar_tables import ScalarTable
from solver.errors import CaseError
from solver.files.reference_files import read_complete, read_reference
from solver.flow.scalars import Scalar
from solver.grid.axis import FiniteVolumeAxis
from solver.grid.grid import Grid

ROWS = ("s", "ss", "us", "vs", "flux_y")
PROFILE = ("s_plus", "s_rms_plus", "us_plus", "vs_plus")
SCALARS = ("u_tau", "wall_flux", "s_tau", "nusselt", "bulk", "balance_residual")
ERRORS = (*PROFILE, "nusselt")


@dataclass(frozen=True)
class ScalarFlow:
    """What one scalar does between the ends of y, from means ``(1 + len(ROWS) scalars, ny, 1)``.

    Parameters
    ----------
    flow : the walls from which it is seen, and the distances from them.
    scalar : what is carried.
    number : which of the scalars of the means it is.
    """

    flow: WallFlow
    scalar: Scalar
    number: int

    @cached_property
    def diffusivity(self) -> float:
        """Viscosity over the Prandtl number."""
        return self.flow.nu / self.scalar.prandtl

    def seen(self, means: Array) -> dict[str, Array]:
        """``u``, `ROWS`, ``produced`` and ``wall_flux`` over the whole height as the walls see them, their average.

        u is that relative to the wall along the bulk velocity, s that less its value at the wall.
        """
        views = [self._seen_from(means, end) for end in self.flow.walls]
        return {name: np.mean([view[name] for view in views], axis=0) for name in views[0]}

    def _seen_from(self, means: Array, end: int) -> dict[str, Array]:
        rows = slice(1 + len(ROWS) * self.number, 1 + len(ROWS) * (self.number + 1))
        m = dict(zip(ROWS, means[rows, :, 0], strict=True)) | {"u": means[0, :, 0]}
        width = self.flow.y.width
        if end:
            m = {name: f[::-1] for name, f in m.items()} | {"flux_y": -np.append(m["flux_y"][-2::-1], 0.0)}
            m["vs"], width = -m["vs"], width[::-1]
        wall, given = wall_at(self.flow.y, end), self.scalar.end(1, end)
        speed = wall.velocity[0] if wall is not None else 0.0
        sign = -1.0 if ((m["u"] - speed) * width).sum() < 0 else 1.0
        slope_of = 2.0 / width[0]
        at_wall = given.value
        if at_wall is None:
            at_wall = m["s"][0] + given.flux / (slope_of * self.diffusivity) if self.diffusivity else m["s"][0]
        flux = self.diffusivity * (m["s"][0] - at_wall) * slope_of if given.value is not None else -given.flux
        produced = self.scalar.source + self.scalar.source_per_u * m["u"]
        u, s = sign * (m["u"] - speed), m["s"] - at_wall
        us = sign * (m["us"] - m["u"] * at_wall - speed * s)
        ss = m["ss"] - 2.0 * at_wall * m["s"] + at_wall**2
        seen = {"u": u, "s": s, "ss": ss, "us": us, "vs": m["vs"], "flux_y": m["flux_y"], "produced": produced}
        return seen | {"wall_flux": np.array(flux)}

    def _units(self, m: dict[str, Array]) -> tuple[float, float]:
        """Friction velocity and s_tau; NaN where nothing rubs or passes."""
        u_tau = float(np.sqrt(abs(self.flow.nu * m["u"][0] / self.flow.distance[0]))) or np.nan
        return u_tau, float(m["wall_flux"]) / u_tau or np.nan

    def scalars(self, means: Array) -> Array:
        """`SCALARS`: friction velocity, what leaves through the wall, s_tau, Nusselt number, bulk value, residual.

        The bulk value is that of what flows, ``int U S dy / int U dy``, less that of the wall; the Nusselt number
        ``2 h wall_flux / (kappa bulk)``. The residual, of which a stationary flow has none, is the largest
        ``|kappa dS/dy - flux - (wall flux - what is produced below)|`` over the wall flux.
        """
        m, h = self.seen(means), self.flow.half_height
        u_tau, s_tau = self._units(m)
        count = len(self.flow.distance)
        flow = (m["u"][:count] * self.flow.weights).sum() or np.nan
        bulk = float((m["u"] * m["s"])[:count] @ self.flow.weights / flow)
        nusselt = 2.0 * h * float(m["wall_flux"]) / (self.diffusivity * bulk or np.nan) if self.diffusivity else np.nan
        return np.array([u_tau, m["wall_flux"], s_tau, nusselt, bulk, self._residual(m)])

    def _residual(self, m: dict[str, Array]) -> float:
        inside = int((self.flow.heights <= self.flow.half_height * (1 + 1e-9)).sum())
        height = self.flow.y.width[::-1] if self.flow.walls == (1,) else self.flow.y.width
        slope = np.diff(m["s"]) / np.diff(self.flow.heights)
        produced = np.cumsum(m["produced"] * height)[:-1]
        missing = self.diffusivity * slope - m["flux_y"][:-1] - (m["wall_flux"] - produced)
        return float(np.abs(missing[: inside - 1]).max()) / (abs(float(m["wall_flux"])) or np.nan)

    def profiles(self, means: Array) -> Array:
        """Rows `PROFILE` up to h: mean less the wall's value, rms, and the fluxes <u's'> and <v's'>, plus units."""
        m = self.seen(means)
        u_tau, s_tau = self._units(m)
        rms = np.sqrt(np.maximum(m["ss"] - m["s"] ** 2, 0.0)) / abs(s_tau)
        us = (m["us"] - m["u"] * m["s"]) / (u_tau * s_tau)
        return np.stack([m["s"] / s_tau, rms, us, m["vs"] / (u_tau * s_tau)])[:, : len(self.flow.distance)]

    def errors(self, reference: ScalarReference, means: Array) -> Array:
        """`ERRORS`: relative L2 over the height of each profile, and the relative error of the Nusselt number."""
        y, found = self.flow.distance / self.flow.half_height, []
        for name, row in zip(PROFILE, self.profiles(means), strict=True):
            truth = reference.profile(name, y)
            norm = (self.flow.weights * truth**2).sum() or np.nan
            found.append(float(np.sqrt((self.flow.weights * (row - truth) ** 2).sum() / norm)))
        nusselt = self.scalars(means)[SCALARS.index("nusselt")]
        return np.array([*found, nusselt / reference.nusselt(self.scalar.prandtl) - 1.0])


def scalar_flows(grid: Grid, nu: float, scalar: Scalar, number: int) -> dict[str, ScalarFlow]:
    """What each wall of a channel sees of a scalar: ``{"": both}``, or by "lower" and "upper"; nothing without walls.

    Two walls see the same where the cells are mirrored, both move alike, and the same is given at both.
    """
    y = grid.y
    if not (isinstance(y, FiniteVolumeAxis) and grid.x.is_fourier and grid.z.is_fourier) or nu == 0:
        return {}
    if grid.has_modelled_walls:
        return {}
    walls = [(end, wall) for end in (0, 1) if (wall := wall_at(y, end)) is not None]
    alike = len(walls) == 1 or (walls and walls[0][1] == walls[1][1] and mirrored(y))
    if alike and (len(walls) == 1 or scalar.end(1, 0) == scalar.end(1, 1)):
        return {"": ScalarFlow(WallFlow(y, nu), scalar, number)}
    return {("lower", "upper")[end]: ScalarFlow(WallFlow(y, nu, only=end), scalar, number) for end, _ in walls}


COLUMNS = {"s_plus": "T_plus", "s_rms_plus": "T_rms_plus", "us_plus": "uT_plus"}


@dataclass(frozen=True)
class ScalarReference:
    """A reference of a scalar in a channel: columns over ``y_over_h`` by the names of `PROFILE`, and more.

    Parameters
    ----------
    known : heights and values, from the wall on.
    re_tau : friction Reynolds number.
    velocity : heights and values of the mean velocity, None without.
    """

    known: dict[str, tuple[Array, Array]]
    re_tau: float
    velocity: tuple[Array, Array] | None

    @classmethod
    def of(cls, folder: Path, table: ScalarTable) -> ScalarReference | None:
        """That of a scalar's table, from the files beside the case; None without.

        Raises
        ------
        CaseError : as `read_complete`.
        """
        if table.reference is None:
            return None
        path = folder / table.reference
        rows = read_complete(path, ("y_over_h", "y_plus", *COLUMNS.values()))
        known = {name: _from_wall(rows["y_over_h"], rows[column]) for name, column in COLUMNS.items()}
        if table.reference_flux is not None:
            flux = read_complete(folder / table.reference_flux, ("y_over_h", "minus_vT_plus"))
            known["vs_plus"] = _from_wall(flux["y_over_h"], -flux["minus_vT_plus"])
        whole = read_reference(path)
        velocity = _from_wall(whole["y_over_h"], whole["U_plus"]) if "U_plus" in whole else None
        re_tau = float(rows["y_plus"][-1] / rows["y_over_h"][-1])
        if not re_tau > 0:
            raise CaseError(f"{path}: y_plus and y_over_h should be positive: repair the file")
        return cls(known, re_tau, velocity)

    def profile(self, name: str, y_over_h: Array) -> Array:
        """One of `PROFILE` at these heights, NaN where the reference has none."""
        return np.interp(y_over_h, *self.known[name]) if name in self.known else np.full_like(y_over_h, np.nan)

    def nusselt(self, prandtl: float) -> float:
        """``2 Re_tau Pr / T_m+`` with ``T_m = int U T / int U``; NaN without the mean velocity."""
        if self.velocity is None:
            return float("nan")
        from scipy.integrate import trapezoid  # dear, and asked for by references of scalars alone

        y = np.union1d(np.clip(self.known["s_plus"][0], 0.0, 1.0), [1.0])
        u, t = np.interp(y, *self.velocity), np.interp(y, *self.known["s_plus"])
        nusselt: float = 2.0 * self.re_tau * prandtl * trapezoid(u, y) / trapezoid(u * t, y)
        return nusselt


def _from_wall(y: Array, values: Array) -> tuple[Array, Array]:
    known = np.isfinite(y * values) & (y > 0)
    return np.append(0.0, y[known]), np.append(0.0, values[known])


def check_scalar_references(tables: Iterable[ScalarTable], folder: Path) -> None:
    """Read every table of the scalars' references now, as `check_reference` does; raises as `ScalarReference.of`."""
    for table in tables:
        ScalarReference.of(folder, table)
