"""Moments of a channel made from the tables of Moser, Kim & Mansour (1999) at Re_tau = 180; not a test itself."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline

from solver.analysis.channel import ChannelProfiles
from solver.analysis.moments import NAMES
from solver.analysis.reference import ChannelReference
from solver.grid.axis import FiniteVolumeAxis, NoSlip, stretched_faces
from tests.physics.shipped import table

DNS, TERMS = table("channel180", "channel_mkm180.csv"), table("channel180", "channel_mkm180_kbudget.csv")
REFERENCE = ChannelReference(DNS)
NU = 1.0 / REFERENCE.re_tau  # units: u_tau and h
AXIS = FiniteVolumeAxis(stretched_faces(128, 0.0, 2.0, 1.7), NoSlip(), NoSlip())
CHANNEL = ChannelProfiles(AXIS, NU)


def curve(of: dict[str, np.ndarray], values: np.ndarray) -> CubicSpline:
    return CubicSpline(of["y_over_h"], values)


def at(spline: CubicSpline, y: np.ndarray, odd: bool = False) -> np.ndarray:
    """A profile of the half channel over the whole one."""
    return spline(np.minimum(y, 2 - y)) * (np.where(y < 1, 1.0, -1.0) if odd else 1.0)


def centred_slope(u: np.ndarray) -> np.ndarray:
    """dU/dy at centres as the solver's gradient has it: the mean of the differences over both faces."""
    at_faces = np.diff(np.concatenate([[-u[0]], u, [-u[-1]]])) / AXIS.spacing
    return 0.5 * (at_faces[1:] + at_faces[:-1])


def moments() -> np.ndarray:
    """Raw moments a run would have accumulated had it been the DNS, pressure strain and other unused ones zero."""
    y = AXIS.centres
    m = dict.fromkeys(NAMES, np.zeros_like(y))
    m["u"] = at(curve(DNS, DNS["U_plus"]), y)
    for c in "uvw":
        m[c + c] = at(curve(DNS, DNS[f"{c}{c}_plus"]), y) + (m["u"] ** 2 if c == "u" else 0.0)
    shear = curve(DNS, DNS["uv_plus"])
    m["uv"], m["flux_xy"] = at(shear, y, odd=True), at(shear, AXIS.faces[1:], odd=True)
    m["uuv"] = 2 * m["u"] * m["uv"]
    m["vvv"] = -2 / NU * at(curve(TERMS, TERMS["turbulent_diffusion"]).antiderivative(), y, odd=True)
    m["pv"] = -1 / NU * at(curve(TERMS, TERMS["pressure_diffusion"]).antiderivative(), y, odd=True)
    m["dudx_dudx"] = -at(curve(TERMS, TERMS["dissipation"]), y) / NU**2 + centred_slope(m["u"]) ** 2
    return np.stack([m[name] for name in NAMES])[..., None]
