"""Second invariant of the velocity gradient on a rectilinear, possibly stretched grid."""

from __future__ import annotations

import numpy as np

UNIFORM = 1e-3  # relative spread of the spacing; coordinates may be stored in float32


def q_criterion(velocity: np.ndarray, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return Q = (|Omega|^2 - |S|^2) / 2 = -1/2 d_i u_j d_j u_i at the points [1/time^2], `(nx, ny, nz)`.

    Second order in the spacing. x and z are taken as periodic where their points are equally spaced; in y,
    and in x or z when stretched, the differences are one-sided at the ends.
    Hunt, Wray & Moin (1988), CTR-S88, p. 193: Q > 0 where rotation outweighs strain.

    Parameters
    ----------
    velocity : (3, nx, ny, nz), components along x, y, z.
    x, y, z : (nx,), (ny,), (nz,), coordinates of the points.
    """
    points = (x, y, z)
    periodic = (is_uniform(x), False, is_uniform(z))

    def gradient(component: int, axis: int) -> np.ndarray:
        return derivative(velocity[component], points[axis], axis, periodic[axis])

    q: np.ndarray = -0.5 * (gradient(0, 0) ** 2 + gradient(1, 1) ** 2 + gradient(2, 2) ** 2)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        q -= gradient(i, j) * gradient(j, i)
    return q


def derivative(values: np.ndarray, points: np.ndarray, axis: int, periodic: bool) -> np.ndarray:
    """Return d(values)/d(points) along `axis`: three-point differences, second order when stretched.

    With `periodic`, the points are equally spaced and the period is their number times the spacing.
    """
    if len(points) < 3:
        return np.zeros_like(values)  # two-dimensional flow: nothing varies along this axis
    slope: np.ndarray
    if periodic:
        spacing = (points[-1] - points[0]) / (len(points) - 1)
        slope = (np.roll(values, -1, axis) - np.roll(values, 1, axis)) / (2 * spacing)
    else:
        slope = np.gradient(values, points, axis=axis, edge_order=2)
    return slope


def is_uniform(points: np.ndarray) -> bool:
    """Return whether the points are equally spaced."""
    spacing = np.diff(points)
    return bool(np.ptp(spacing) <= UNIFORM * np.abs(spacing).max()) if spacing.size else True
