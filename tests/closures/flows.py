"""Small grids of every kind, and velocities on them, for the closure tests; not a test itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from closures.algebraic.invariants import contraction, symmetric
from closures.registry import registry
from closures.registry.contract import (
    STRESS,
    make_operators,
    make_velocity,
    moved,
    random_fields,
    reflect,
    reflect_scalar,
)
from solver.flow.closure import EddyViscosity
from solver.grid.axis import FiniteVolumeAxis, FourierAxis, NoSlip, stretched_faces
from solver.grid.grid import Grid

__all__ = ["make_operators", "make_velocity", "moved", "random_fields", "reflect", "reflect_scalar"]

KINDS = ["channel", "box", "duct", "cavity"]
NU = 1e-3
VARIANTS = [
    *((name, {}) for name in registry.BUILT_IN),
    ("dynamic_smagorinsky", {"averaging": "local"}),
    ("two_part", {"model": "dynamic_smagorinsky"}),
]


def make_grid(kind, wall_velocity=(0.0, 0.0, 0.0)):
    """A grid of a few cells; the box and the cavity are cubes, so that axes can be exchanged."""
    wall = NoSlip(wall_velocity)

    def walled(n, length):
        return FiniteVolumeAxis(stretched_faces(n, 0.0, length, 1.5), wall, wall)

    if kind == "channel":
        return Grid(FourierAxis(10, 6.0), walled(12, 2.0), FourierAxis(13, 3.0, "2/3"))
    if kind == "duct":
        return Grid(FourierAxis(10, 6.0), walled(11, 2.0), walled(8, 1.5))
    if kind == "cavity":
        return Grid(walled(9, 1.0), walled(9, 1.0), walled(9, 1.0))
    return Grid(FourierAxis(9, 5.0), FourierAxis(9, 5.0), FourierAxis(9, 5.0))


def fields_for(name, grid, seed=7):
    """Noise; for what reads a cascade into two levels of it, noise that falls off along the Fourier directions."""
    fields = random_fields(grid, seed)
    for d, axis in grid.fourier_axes.items():
        if name == "easm":
            m = np.fft.rfftfreq(axis.points, 1.0 / axis.points).reshape([-1 if k == d else 1 for k in range(3)])
            fields = [np.fft.irfft(np.fft.rfft(f, axis=d) / (1.0 + m**2), axis.points, axis=d) for f in fields]
    return fields


def viscosity(closure, velocity):
    """nu_t of the first call."""
    return closure(velocity, 0.0, closure.init(velocity.operators))[0].nu_t


def answer(closure, velocity):
    """The first answer as one tensor (fields, nx, local ny, nz): one viscosity, or six stresses."""
    term = closure(velocity, 0.0, closure.init(velocity.operators))[0]
    return term.nu_t[None] if isinstance(term, EddyViscosity) else torch.stack(term.tau)


def exchange_answer(fields, a, b):
    """An answer as it is with two axes exchanged."""
    seen = fields.swapaxes(a + 1, b + 1)
    if len(fields) == 1:
        return seen
    other = {a: b, b: a}
    order = [STRESS.index(tuple(sorted((other.get(i, i), other.get(j, j))))) for i, j in STRESS]
    return seen[order]


def drain(term, velocity):
    """``-tau_ij s_ij`` at cell centres."""
    s = symmetric(velocity.gradient)
    if isinstance(term, EddyViscosity):
        return 2.0 * term.nu_t * contraction(s, s)
    return -contraction(term.tau, s)


def exchange(fields, a, b):
    """A velocity with two axes exchanged."""
    swapped = [f.swapaxes(a, b) for f in fields]
    swapped[a], swapped[b] = swapped[b], swapped[a]
    return swapped


def uniform(kind):
    """A velocity that the walls of this kind of grid allow everywhere."""
    allowed = {"box": (1.3, -0.7, 0.4), "channel": (1.3, 0.0, 0.4), "duct": (1.3, 0.0, 0.0)}
    return allowed.get(kind, (0.0, 0.0, 0.0))


def assert_same(a, b, tolerance=1e-10):
    """Two arrays agree to a share of the greatest value, which is not zero."""
    assert np.abs(a).max() > 0
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(a).max())


def assert_slope(functional, rel):
    """What autograd says of a function of one number, at zero, is what central differences say."""
    with torch.enable_grad():
        step = torch.zeros((), dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(functional(step), step)
    h = 1e-6
    assert float(slope) == pytest.approx(float(functional(h) - functional(-h)) / (2 * h), rel=rel)
