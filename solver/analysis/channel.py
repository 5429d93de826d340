"""From accumulated moments to what a flow along walls is judged by: wall units, profiles, budget, errors.

Channels, half channels (one wall, free slip opposite) and plane Couette flow are one: each wall sees the flow in its
own frame (`solver.analysis.wall_view`), walls that see the same are averaged. ``h`` is half the distance between two
walls or the height over a single one, bulk units are those of the bulk velocity relative to the wall, plus units those
of the run's own friction velocity.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from solver.analysis.batch_means import Array, BatchMeans
from solver.analysis.metrics import WALL_FLOW
from solver.analysis.moments import INDEX
from solver.analysis.reference import PROFILES, ChannelReference, RunReference
from solver.analysis.wall_flow import WallFlow, between
from solver.analysis.wall_view import mirrored, wall_at
from solver.grid.axis import FiniteVolumeAxis
from solver.grid.grid import Grid

PROFILE = (
    *("u_plus", "u_rms_plus", "v_rms_plus", "w_rms_plus", "uv_plus"),
    *("tau_sgs", "nu_t_plus", "sgs_share", "sgs_work_mean", "sgs_work_fluctuation"),
)
SUBGRID = ("share_at_y_plus_15", "work_mean", "work_fluctuation")
SHARE_AT = 15.0  # wall units: where turbulence is produced most
BUDGET = (
    "production",
    "dissipation",
    "turbulent_transport",
    "viscous_diffusion",
    "pressure",
    "sgs",
    "residual",
)


@dataclass(frozen=True)
class ChannelProfiles(WallFlow):
    """What a flow along walls is judged by, from its means ``(len(NAMES), ny, 1)``."""

    def scalars(self, means: Array) -> Array:
        """``u_tau, bulk velocity, re_tau, re_bulk (2 h U / nu), c_f (2 u_tau^2 / U^2), total stress residual``.

        The bulk velocity is as the grid has it; U is its distance from that of the wall, which is half the difference
        of the walls' velocities in Couette flow.
        """
        m = self.seen(means)
        u_tau = self.friction_velocity(m)
        bulk = float((means[INDEX["u"], :, 0] * self.y.width).sum()) / self.y.length
        speed = abs(float((m["u"] * np.diff(self._faces)).sum())) / self.y.length
        return np.array(
            [
                u_tau,
                bulk,
                u_tau * self.half_height / self.nu,
                2 * self.half_height * speed / self.nu,
                2 * (u_tau / (speed or np.nan)) ** 2,
                self._stress_residual(m),
            ]
        )

    def _stress_residual(self, m: dict[str, Array]) -> float:
        """Max over faces of ``|nu dU/dy - <flux_xy> - (what is linear between the ends)| / u_tau^2``.

        flux = uv + tau_sgs. Between two walls at rest the line is ``u_tau^2 (1 - y/h)``.
        """
        slope = self._slopes(m)
        stress = (self.nu * slope - self._at_faces(m["flux_xy"]) - self._stress_of_force(m))[1:-1]
        ends = [self.friction_velocity(m) ** 2, self.nu * slope[-1] - m["wall_flux_xy"][-1]]
        line = np.interp(self._faces[1:-1], self._faces[[0, -1]], ends)
        return float(np.abs(stress - line).max()) / self._unit(m) ** 2

    def imbalance(self, means: Array) -> float:
        """Root mean square over the height of ``(nu dU/dy - uv - tau_xy) / u_tau^2 - (1 - y/h)``, at centres.

        A stationary flow between two walls at rest has none, but for the slopes of coarse cells at the wall (half a per
        cent on the grid of channel180_coarse), if these stresses are all that moves its momentum.
        """
        m, count = self.seen(means), len(self.distance)
        stress = (self.nu * self.shear(m) - (m["uv"] - m["u"] * m["v"]) - m["tau_xy"])[:count]
        missing = stress / self.friction_velocity(m) ** 2 - (1 - self.distance / self.half_height)
        return float(np.sqrt((missing**2 * self.judged).sum() / self.judged.sum()))

    def profiles(self, means: Array) -> Array:
        """Rows `PROFILE` up to h, plus units.

        ``tau_sgs`` is the subgrid shear stress with the sign of uv, ``sgs_share`` its part of the turbulent shear
        stress, ``tau_sgs / (uv + tau_sgs)``, NaN where there is none. For the work see `subgrid_work`.
        """
        m = self.seen(means)
        u_tau = self._unit(m)
        rms = [np.sqrt(np.maximum(m[f"{c}{c}"] - m[c] ** 2, 0.0)) / u_tau for c in "uvw"]
        uv, tau = m["uv"] - m["u"] * m["v"], self.subgrid_shear(m)
        work = [part / (u_tau**4 / self.nu) for part in self.subgrid_work(m)]
        rows = [m["u"] / u_tau, *rms, uv / u_tau**2, tau / u_tau**2, m["nu_t"] / self.nu, _share(tau, uv), *work]
        return np.stack(rows)[:, : len(self.distance)]

    def subgrid_shear(self, m: dict[str, Array]) -> Array:
        """The mean subgrid shear stress at the centres of what `seen` gave; a force counts as the stress it acts as."""
        return m["tau_xy"] + between(self._stress_of_force(m))

    def subgrid_work(self, m: dict[str, Array]) -> tuple[Array, Array]:
        """The energy that the subgrid term drains from the mean flow along x, and from all other motion, at centres.

        ``-<tau_xy> dU/dy`` and ``-<tau_ij s_ij>`` without that, which is ``-<tau_ij' s_ij'>``; of a force
        ``-<f_x> U`` and ``-<f_i' u_i'>``.
        """
        mean = -between(self._at_faces(m["sgs_flux_xy"]) * self._slopes(m)) - m["force_x"] * m["u"]
        return mean, m["eps_sgs"] - mean

    def subgrid(self, means: Array) -> Array:
        """The rows `SUBGRID`: the share of the subgrid in the turbulent shear stress at y+ = 15, and of its work on the
        mean flow and on fluctuations in the energy that the resolved flow loses, viscous dissipation included.
        """
        m = self.seen(means)
        at = SHARE_AT * self.nu / self._unit(m)
        tau, uv = (np.array(np.interp(at, self.heights, f)) for f in (self.subgrid_shear(m), m["uv"] - m["u"] * m["v"]))
        share = _share(tau, uv) if at <= self.half_height else np.nan
        viscous = self.nu * (m["dudx_dudx"] + m["dvdx_dvdx"] + m["dwdx_dwdx"])
        mean, fluctuation, lost = (
            float((f[: len(self.distance)] * self.weights).sum()) for f in (*self.subgrid_work(m), viscous)
        )
        all_of_it = mean + fluctuation + lost or np.nan
        return np.array([share, mean / all_of_it, fluctuation / all_of_it])

    def budget(self, means: Array) -> Array:
        """Rows `BUDGET`: the budget of resolved turbulent kinetic energy in units of ``u_tau^4 / nu``."""
        m = self.seen(means)
        u, uv = m["u"], m["uv"] - m["u"] * m["v"]
        dudy = self.shear(m)
        energy = 0.5 * (m["uu"] - u**2 + m["vv"] + m["ww"])
        third = m["uuv"] - 2 * u * m["uv"] + u**2 * m["v"] + m["vvv"] + m["wwv"]
        gradients = m["dudx_dudx"] + m["dvdx_dvdx"] + m["dwdx_dwdx"] - dudy**2
        production = -uv * dudy
        dissipation = -self.nu * gradients
        transport = -0.5 * self._divergence(third)
        diffusion = self.nu * self._curvature(energy)
        pressure = -self._divergence(m["pv"] - m["p"] * m["v"])
        sgs = -self.subgrid_work(m)[1] - self._divergence(m["tau_u"] - u * m["tau_xy"])
        rows = [production, dissipation, transport, diffusion, pressure, sgs]
        return np.stack([*rows, sum(rows)])[:, : len(self.distance)] / (self._unit(m) ** 4 / self.nu)

    def _stress_of_force(self, m: dict[str, Array]) -> Array:
        """The shear stress at all faces by which ``<f_x>`` moves momentum: ``-d(stress)/dy`` is what it is beyond its
        mean over the height, which drives the flow as a pressure gradient does.
        """
        height = np.diff(self._faces)
        inner = m["force_x"] - (m["force_x"] * height).sum() / height.sum()
        return self._at_faces(-np.cumsum(inner * height))


def _share(part: Array, rest: Array) -> Array:
    """``part / (part + rest)``, NaN where that is 0 / 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return part / (part + rest)


def wall_flows(grid: Grid, nu: float, driven: bool) -> dict[str, ChannelProfiles]:
    """What each wall of a flow sees that is homogeneous in x and z: ``{"": both}``, or by "lower" and "upper".

    Two walls see the same where the cells are mirrored and both move alike, or nothing but the walls drives the flow.
    Nothing comes back where there is no wall across y.
    """
    y = grid.y
    if not isinstance(y, FiniteVolumeAxis) or not (grid.x.is_fourier and grid.z.periodic):
        return {}
    walls = {side: wall for end, side in enumerate(("lower", "upper")) if (wall := wall_at(y, end)) is not None}
    speeds = {wall.velocity[0] for wall in walls.values()}
    if len(walls) == 2 and not (mirrored(y) and (len(speeds) == 1 or not driven)):
        return {side: ChannelProfiles(y, nu, only=end) for end, side in enumerate(walls)}
    return {"": ChannelProfiles(y, nu)} if walls else {}


ERRORS = tuple(metric.name for metric in WALL_FLOW)


def deviations(channel: ChannelProfiles, reference: ChannelReference, means: Array, units: str) -> list[Array]:
    """Deviations from the reference, one array for each of `ERRORS`; the root of the sum of its squares is the error.

    Along a profile they are weighted by height (`WallFlow.judged`) and relative to the norm of the reference; that of
    c_f is relative.
    `units` is "bulk" (both scaled by their bulk velocity) or "wall".
    """
    profiles = channel.profiles(means)[:5]
    m = channel.fold(means)
    u_tau, bulk = channel.friction_velocity(m), channel.bulk(m) or np.nan
    y_over_h = channel.distance / channel.half_height
    scale, reference_scale = (u_tau / bulk, 1 / reference.bulk) if units == "bulk" else (1.0, 1.0)
    result = []
    for row, name in zip(profiles, PROFILES, strict=True):
        power = 2 if name == "uv" else 1
        truth = reference.profile(name, y_over_h) * reference_scale**power
        norm = (channel.judged * truth**2).sum() or np.nan  # a profile of zeros has no relative error
        result.append(np.sqrt(channel.judged / norm) * (row * scale**power - truth))
    c_f = 2 * u_tau**2 / bulk**2
    return [*result, np.array([c_f / reference.c_f - 1])]


def errors(channel: ChannelProfiles, reference: ChannelReference, means: Array, units: str) -> Array:
    """Relative L2 errors of ``u_mean, u_rms, v_rms, w_rms, uv`` (height-weighted) and of c_f; see `deviations`."""
    return np.array([np.sqrt((row**2).sum()) for row in deviations(channel, reference, means, units)])


def departure(channel: ChannelProfiles, reference: ChannelReference, means: Array) -> Array:
    """Max |dU+| over the judged cells, (1,)."""
    truth = reference.profile("u_mean", channel.distance / channel.half_height)
    largest: Array = np.abs(channel.profiles(means)[0] - truth)[channel.judged > 0].max(keepdims=True)
    return largest


def report(channel: ChannelProfiles, statistics: BatchMeans) -> dict[str, tuple[Array, Array]]:
    """Scalars, profiles, budget and the rows `SUBGRID` with their 95 % half widths."""
    return {
        "scalars": statistics.estimate(channel.scalars),
        "profiles": statistics.estimate(channel.profiles),
        "budget": statistics.estimate(channel.budget),
        "subgrid": statistics.estimate(channel.subgrid),
    }


def table_of(channel: ChannelProfiles, means: Array) -> RunReference:
    """Means of a run as the table a publication would print, the wall included."""
    m = channel.fold(means)
    u, u_rms, v_rms, w_rms, uv, tau_xy, *_ = channel.profiles(means)
    u_tau = channel.friction_velocity(m)
    rows = {"U_plus": u, "uu_plus": u_rms**2, "vv_plus": v_rms**2, "ww_plus": w_rms**2, "uv_plus": uv}
    y = channel.distance / channel.half_height
    rows |= {"tau_xy_plus": tau_xy, "y_over_h": y, "y_plus": channel.distance * u_tau / channel.nu}
    return RunReference({name: np.concatenate([[0.0], row]) for name, row in rows.items()}, channel.bulk(m) / u_tau)
