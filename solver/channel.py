"""From accumulated moments to what a channel run is judged by: wall units, profiles, budget, errors.

The lower and upper half are averaged with the symmetry each quantity has. ``h`` is the half height, bulk units are
those of the bulk velocity, plus units those of the run's own friction velocity.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from solver.axis import FiniteVolumeAxis
from solver.hooks.batch_means import Array, BatchMeans
from solver.hooks.statistics import INDEX
from solver.reference import PROFILES, ChannelReference

ODD = {"v", "uv", "vw", "tau_xy", "tau_yz", "pv", "uuv", "vvv", "wwv", "tau_u"}
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
    """Evaluates derived quantities from means ``(len(NAMES), ny, 1)`` of a channel.

    Parameters
    ----------
    y : wall-normal axis.
    nu : kinematic viscosity.
    """

    y: FiniteVolumeAxis
    nu: float

    @property
    def half_height(self) -> float:
        """h."""
        return 0.5 * self.y.length

    @property
    def distance(self) -> Array:
        """Wall distance of the cell centres of the lower half."""
        return (self.y.centres - self.y.faces[0])[: (self.y.n + 1) // 2]

    def fold(self, means: Array) -> dict[str, Array]:
        """Moments of the lower half, both halves averaged."""
        half = (self.y.n + 1) // 2
        flat = means[..., 0]
        return {
            name: 0.5 * (flat[i, :half] + (-1.0 if name in ODD else 1.0) * flat[i, ::-1][:half])
            for name, i in INDEX.items()
            if name != "flux_xy"
        }

    def friction_velocity(self, m: dict[str, Array]) -> float:
        """``sqrt(nu dU/dy)`` at the wall, as the discretisation sees it."""
        return float(np.sqrt(max(self.nu * m["u"][0] / self.distance[0], 0.0)))

    def bulk(self, m: dict[str, Array]) -> float:
        """Bulk velocity."""
        return self._integral(m["u"]) / self.half_height

    def _integral(self, f: Array) -> float:
        """Integral over the half channel by cell heights (half of the centre cell where n is odd)."""
        return float((f * self.weights).sum())

    @property
    def weights(self) -> Array:
        """Cell heights within the lower half."""
        half = (self.y.n + 1) // 2
        weight = self.y.width[:half].copy()
        if self.y.n % 2:
            weight[-1] *= 0.5
        return weight

    def scalars(self, means: Array) -> Array:
        """``u_tau, bulk, re_tau, re_bulk (2 h U_b / nu), c_f, total stress residual``."""
        m = self.fold(means)
        u_tau, bulk = self.friction_velocity(m), self.bulk(m)
        return np.array(
            [
                u_tau,
                bulk,
                u_tau * self.half_height / self.nu,
                2 * self.half_height * bulk / self.nu,
                2 * u_tau**2 / bulk**2,
                self.stress_residual(means, u_tau),
            ]
        )

    def stress_residual(self, means: Array, u_tau: float) -> float:
        """max over faces of ``|-<flux_xy> + nu dU/dy - u_tau^2 (1 - y/h)| / u_tau^2``; flux = uv + tau_sgs."""
        u, flux = means[INDEX["u"], :, 0], means[INDEX["flux_xy"], :-1, 0]
        stress = self.nu * np.diff(u) / self.y.spacing[1:-1] - flux
        stress = 0.5 * (stress - stress[::-1])
        height = (self.y.faces[1:-1] - self.y.faces[0]) / self.half_height
        return float(np.abs(stress - u_tau**2 * (1 - height)).max() / u_tau**2)

    def profiles(self, means: Array) -> Array:
        """Rows `PROFILE` over the lower half, plus units; ``tau_sgs`` is the shear stress with the sign of uv."""
        m = self.fold(means)
        u_tau = self.friction_velocity(m)
        rms = [np.sqrt(np.maximum(m[f"{c}{c}"] - m[c] ** 2, 0.0)) / u_tau for c in "uvw"]
        uv = (m["uv"] - m["u"] * m["v"]) / u_tau**2
        return np.stack([m["u"] / u_tau, *rms, uv, m["tau_xy"] / u_tau**2, m["nu_t"] / self.nu])

    def budget(self, means: Array) -> Array:
        """Rows `BUDGET`: the budget of resolved turbulent kinetic energy in units of ``u_tau^4 / nu``."""
        m = self.fold(means)
        u, uv = m["u"], m["uv"] - m["u"] * m["v"]
        dudy = self._centred_slope(u)
        energy = 0.5 * (m["uu"] - u**2 + m["vv"] + m["ww"])
        third = m["uuv"] - 2 * u * m["uv"] + u**2 * m["v"] + m["vvv"] + m["wwv"]
        gradients = m["dudx_dudx"] + m["dvdx_dvdx"] + m["dwdx_dwdx"] - dudy**2
        production = -uv * dudy
        dissipation = -self.nu * gradients
        transport = -0.5 * self._slope(third, odd=True, at_wall=0.0)
        diffusion = self.nu * self._curvature(energy)
        pressure = -self._slope(m["pv"] - m["p"] * m["v"], odd=True, at_wall=0.0)
        sgs = -(m["eps_sgs"] + m["tau_xy"] * dudy) - self._slope(m["tau_u"] - u * m["tau_xy"], odd=True, at_wall=0.0)
        rows = [production, dissipation, transport, diffusion, pressure, sgs]
        return np.stack([*rows, sum(rows)]) / (self.friction_velocity(m) ** 4 / self.nu)

    def _faces(self, f: Array, odd: bool, at_wall: float) -> Array:
        """Values at the faces of the lower half: the wall, means of neighbours, the centre plane."""
        n = self.y.n
        whole = np.concatenate([f, (-f if odd else f)[::-1][n % 2 :]])
        inner = 0.5 * (whole[1:] + whole[:-1])
        return np.concatenate([[at_wall], inner])[: len(f) + 1]

    def _centred_slope(self, u: Array) -> Array:
        """dU/dy at centres as the accumulated gradients have it: the mean of the slopes at both faces."""
        whole = np.concatenate([[-u[0]], u, u[::-1][self.y.n % 2 :]])
        slope = np.diff(whole)[: len(u) + 1] / self.y.spacing[: len(u) + 1]
        return 0.5 * (slope[1:] + slope[:-1])

    def _slope(self, f: Array, odd: bool, at_wall: float) -> Array:
        return np.diff(self._faces(f, odd, at_wall)) / self.y.width[: len(f)]

    def _curvature(self, f: Array) -> Array:
        n, spacing = self.y.n, self.y.spacing
        whole = np.concatenate([f, f[::-1][n % 2 :]])
        slope = np.concatenate([[f[0] / (0.5 * spacing[0])], np.diff(whole) / spacing[1:-1], [0.0]])
        return (np.diff(slope) / self.y.width)[: len(f)]


ERRORS = (*PROFILES, "c_f")


def deviations(channel: ChannelProfiles, reference: ChannelReference, means: Array, units: str) -> list[Array]:
    """Deviations from the reference, one array for each of `ERRORS`; the root of the sum of its squares is the error.

    Along a profile they are weighted by height and relative to the norm of the reference; that of c_f is relative.
    `units` is "bulk" (both scaled by their bulk velocity) or "wall".
    """
    profiles = channel.profiles(means)[:5]
    m = channel.fold(means)
    u_tau, bulk = channel.friction_velocity(m), channel.bulk(m)
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
