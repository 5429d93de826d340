"""From accumulated moments to what a flow along walls is judged by: wall units, profiles, budget, errors.

Channels, half channels (one wall, free slip opposite) and plane Couette flow are one: each wall sees the flow in its
own frame (`solver.wall_view`), walls that see the same are averaged. ``h`` is half the distance between two walls or
the height over a single one, bulk units are those of the bulk velocity relative to the wall, plus units those of the
run's own friction velocity.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from solver.axis import FiniteVolumeAxis
from solver.grid import Grid
from solver.hooks.batch_means import Array, BatchMeans
from solver.hooks.statistics import INDEX
from solver.reference import PROFILES, ChannelReference
from solver.wall_view import FAR, mirrored, seen_from, wall_at

PROFILE = ("u_plus", "u_rms_plus", "v_rms_plus", "w_rms_plus", "uv_plus", "tau_sgs", "nu_t_plus")
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
class ChannelProfiles:
    """Evaluates derived quantities from means ``(len(NAMES), ny, 1)`` of a flow along one or two walls.

    Parameters
    ----------
    y : wall-normal axis.
    nu : kinematic viscosity.
    only : the end (0 lower, 1 upper) of the one wall that is meant; by default all walls, averaged, but the lower one
        alone where the cells are not the mirror image of each other.
    """

    y: FiniteVolumeAxis
    nu: float
    only: int | None = None

    @cached_property
    def walls(self) -> tuple[int, ...]:
        """The ends from which the flow is seen."""
        if self.only is not None:
            return (self.only,)
        found = tuple(end for end in (0, 1) if wall_at(self.y, end) is not None)
        return found if mirrored(self.y) else found[:1]

    @cached_property
    def half_height(self) -> float:
        """h."""
        both = all(wall_at(self.y, end) is not None for end in (0, 1))
        return (0.5 if both else 1.0) * self.y.length

    @cached_property
    def _faces(self) -> Array:
        """Wall distance of all faces."""
        faces = self.y.faces
        return faces[-1] - faces[::-1] if self.walls == (1,) else faces - faces[0]

    @cached_property
    def heights(self) -> Array:
        """Wall distance of all cell centres."""
        return 0.5 * (self._faces[1:] + self._faces[:-1])

    @cached_property
    def distance(self) -> Array:
        """Wall distance of the cell centres up to h."""
        return self.heights[self.heights <= self.half_height * (1 + 1e-9)]

    @cached_property
    def weights(self) -> Array:
        """Heights of these cells within h (half of the centre cell where n is odd)."""
        return np.diff(np.minimum(self._faces, self.half_height))[: len(self.distance)]

    def seen(self, means: Array) -> dict[str, Array]:
        """Moments over the whole height as the walls see them, their average."""
        views = [seen_from(self.y, end, means) for end in self.walls]
        return {name: sum((view[name] for view in views[1:]), start=f) / len(views) for name, f in views[0].items()}

    def fold(self, means: Array) -> dict[str, Array]:
        """The same moments up to h."""
        seen = self.seen(means)
        return {name: seen[name][: len(self.distance)] for name in INDEX if name != "flux_xy"}

    def planes(self, f: Array) -> Array:
        """An average ``(..., ny)`` that no reflection changes, such as a spectrum, over the wall distance `heights`."""
        return np.mean([f[..., ::-1] if end else f for end in self.walls], axis=0)

    def friction_velocity(self, m: dict[str, Array]) -> float:
        """``sqrt(nu |dU/dy|)`` at the wall, as the discretisation sees it."""
        return float(np.sqrt(self.nu * abs(m["u"][0]) / self.distance[0]))

    def _unit(self, m: dict[str, Array]) -> float:
        """The velocity of wall units, NaN where nothing rubs on the wall."""
        return self.friction_velocity(m) or np.nan

    def bulk(self, m: dict[str, Array]) -> float:
        """Mean velocity up to h."""
        return float((m["u"] * self.weights).sum()) / self.half_height

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
        """max over faces of ``|nu dU/dy - <flux_xy> - (what is linear between the ends)| / u_tau^2``.

        flux = uv + tau_sgs. Between two walls at rest the line is ``u_tau^2 (1 - y/h)``.
        """
        slope = self._slopes(m)
        stress = self.nu * slope[1:-1] - m["flux_xy"][:-1]
        ends = [self.friction_velocity(m) ** 2, self.nu * slope[-1]]
        line = np.interp(self._faces[1:-1], self._faces[[0, -1]], ends)
        return float(np.abs(stress - line).max()) / self._unit(m) ** 2

    def profiles(self, means: Array) -> Array:
        """Rows `PROFILE` up to h, plus units; ``tau_sgs`` is the shear stress with the sign of uv."""
        m = self.fold(means)
        u_tau = self._unit(m)
        rms = [np.sqrt(np.maximum(m[f"{c}{c}"] - m[c] ** 2, 0.0)) / u_tau for c in "uvw"]
        uv = (m["uv"] - m["u"] * m["v"]) / u_tau**2
        return np.stack([m["u"] / u_tau, *rms, uv, m["tau_xy"] / u_tau**2, m["nu_t"] / self.nu])

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
        diffusion = self.nu * self._curvature(energy, opposite=m[FAR] * 0)
        pressure = -self._divergence(m["pv"] - m["p"] * m["v"])
        sgs = -(m["eps_sgs"] + m["tau_xy"] * dudy) - self._divergence(m["tau_u"] - u * m["tau_xy"])
        rows = [production, dissipation, transport, diffusion, pressure, sgs]
        return np.stack([*rows, sum(rows)])[:, : len(self.distance)] / (self._unit(m) ** 4 / self.nu)

    def shear(self, m: dict[str, Array]) -> Array:
        """dU/dy at the centres of what `seen` gave, as the accumulated gradients have it: the mean of both faces."""
        slope = self._slopes(m)
        return 0.5 * (slope[1:] + slope[:-1])

    def _slopes(self, m: dict[str, Array]) -> Array:
        """dU/dy at all faces."""
        return self._gradient(m["u"], m[FAR])

    def _gradient(self, f: Array, opposite: Array) -> Array:
        """df/dy at all faces: f vanishes at the wall and is `opposite` at the other end, free where that is NaN."""
        y = self.heights
        end = 0.0 if np.isnan(opposite) else (opposite - f[-1]) / (self._faces[-1] - y[-1])
        return np.concatenate([[f[0] / y[0]], np.diff(f) / np.diff(y), [end]])

    def _curvature(self, f: Array, opposite: Array) -> Array:
        return np.diff(self._gradient(f, opposite)) / np.diff(self._faces)

    def _divergence(self, flux: Array) -> Array:
        """d/dy of a flux that is given at centres and vanishes at both ends."""
        return np.diff(np.concatenate([[0.0], 0.5 * (flux[1:] + flux[:-1]), [0.0]])) / np.diff(self._faces)


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


ERRORS = (*PROFILES, "c_f")


def deviations(channel: ChannelProfiles, reference: ChannelReference, means: Array, units: str) -> list[Array]:
    """Deviations from the reference, one array for each of `ERRORS`; the root of the sum of its squares is the error.

    Along a profile they are weighted by height and relative to the norm of the reference; that of c_f is relative.
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
        norm = (channel.weights * truth**2).sum()
        result.append(np.sqrt(channel.weights / norm) * (row * scale**power - truth))
    c_f = 2 * u_tau**2 / bulk**2
    return [*result, np.array([c_f / reference.c_f - 1])]


def errors(channel: ChannelProfiles, reference: ChannelReference, means: Array, units: str) -> Array:
    """Relative L2 errors of ``u_mean, u_rms, v_rms, w_rms, uv`` (height-weighted) and of c_f; see `deviations`."""
    return np.array([np.sqrt((row**2).sum()) for row in deviations(channel, reference, means, units)])


def report(channel: ChannelProfiles, statistics: BatchMeans) -> dict[str, tuple[Array, Array]]:
    """Scalars, profiles and budget with their 95 % half widths."""
    return {
        "scalars": statistics.estimate(channel.scalars),
        "profiles": statistics.estimate(channel.profiles),
        "budget": statistics.estimate(channel.budget),
    }
