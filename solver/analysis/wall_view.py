"""The means of a flow between the ends of y as they are seen from one of its walls.

The wall is at rest at the bottom and the flow goes along +x: y is turned round where the wall is the upper one, the
frame is that of the wall, and x points along the bulk velocity. So both walls of a channel see the same flow, as do
those of plane Couette flow, and a flow towards -x is that towards +x.
"""

from __future__ import annotations

import numpy as np

from solver.analysis.moments import INDEX
from solver.grid.axis import Array, FiniteVolumeAxis, NoSlip

FLUXES = ("flux_xy", "sgs_flux_xy")  # through the faces above the cells
AT_WALLS = ("wall_flux_xy", "wall_flux_xz")
ODD_IN_X = {"u", "uv", "uw", "tau_xy", "tau_xz", "force_x", *FLUXES, *AT_WALLS}
ODD_IN_Y = {"v", "uv", "vw", "tau_xy", "tau_yz", "pv", "uuv", "vvv", "wwv", "tau_u", "wall_flux_xy", *FLUXES}
FAR = "far_wall"  # velocity of the wall opposite as it is seen, NaN where there is none


def wall_at(y: FiniteVolumeAxis, end: int) -> NoSlip | None:
    """The wall at the lower (0) or upper (1) end of y, None where that is none."""
    boundary = (y.lower, y.upper)[end]
    return boundary if isinstance(boundary, NoSlip) else None


def mirrored(y: FiniteVolumeAxis) -> bool:
    """Whether the cells of the upper half are the mirror image of those of the lower one."""
    return bool(np.allclose(y.width, y.width[::-1], rtol=1e-9, atol=0.0))


def at_rest(*axes: FiniteVolumeAxis) -> bool:
    """Whether there are walls at the ends of these axes, and none of them moves."""
    walls = [wall for axis in axes for end in (0, 1) if (wall := wall_at(axis, end)) is not None]
    return bool(walls) and all(wall == NoSlip() for wall in walls)


def seen_from(y: FiniteVolumeAxis, end: int, means: Array) -> dict[str, Array]:
    """Moments ``(ny,)`` by name, from the raw means ``(len(NAMES), ny, 1)``, as the wall at `end` sees them.

    `FLUXES` are those through the faces above the cells; beside the moments there is `FAR`, a single number.
    """
    m = {name: means[i, :, 0] for name, i in INDEX.items()}
    width = y.width
    if end == 1:
        flux = {name: np.append(m[name][-2::-1], 0.0) for name in FLUXES}  # nothing flows through the wall
        m = {name: f[::-1] for name, f in m.items()} | flux
        m = {name: -f if name in ODD_IN_Y else f for name, f in m.items()}
        width = width[::-1]
    wall, other = wall_at(y, end), wall_at(y, 1 - end)
    assert wall is not None
    m = _in_frame(m, wall.velocity[0])
    direction = -1.0 if (m["u"] * width).sum() < 0 else 1.0
    if direction < 0:
        m = {name: -f if name in ODD_IN_X else f for name, f in m.items()}
    far = np.nan if other is None else direction * (other.velocity[0] - wall.velocity[0])
    return m | {FAR: np.array(far)}


def _in_frame(m: dict[str, Array], speed: float) -> dict[str, Array]:
    """The moments in a frame that moves with `speed` along x."""
    if speed == 0:
        return m
    return m | {
        "u": m["u"] - speed,
        "uu": m["uu"] - 2 * speed * m["u"] + speed**2,
        "uv": m["uv"] - speed * m["v"],
        "uw": m["uw"] - speed * m["w"],
        "uuv": m["uuv"] - 2 * speed * m["uv"] + speed**2 * m["v"],
        "tau_u": m["tau_u"] - speed * m["tau_xy"],
        "eps_sgs": m["eps_sgs"] + speed * m["force_x"],
    }
