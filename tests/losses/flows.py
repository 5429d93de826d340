"""Small flows and the trajectories that the solver computes of them; not a test itself."""

from __future__ import annotations

import numpy as np
import torch

from closures.losses.les_residual import LesResidual
from closures.registry.registry import create
from solver.flow.flow import Flow
from solver.flow.forcing import Forcing, MassFlux, PressureGradient
from solver.flow.held_shells import HeldShells
from solver.flow.initial import isotropic, wall_turbulence
from solver.grid.axis import FourierAxis
from solver.grid.grid import Grid
from tests.grids import moving, operators, random_velocity, walls

LENGTH = 2 * np.pi
NU = {"box": 0.02, "channel": 0.01, "duct": 0.01}
C_S = 0.17
BULK = 0.7


def grid(kind, n=8):
    """A box, a channel or a duct of a few modes and cells."""
    x, z = FourierAxis(n, LENGTH), FourierAxis(n, LENGTH / 2)
    if kind == "box":
        return Grid(x, FourierAxis(n, LENGTH), FourierAxis(n, LENGTH))
    return Grid(x, walls(n), z if kind == "channel" else walls(n, 1.5))


def forcing(name, op):
    """By the kind of a case."""
    return {
        "none": lambda: Forcing(),
        "mass_flux": lambda: MassFlux(op, BULK),
        "pressure_gradient": lambda: PressureGradient(op, 0.3),
        "held_shells": lambda: HeldShells(op, (0.4, 0.3)),
    }[name]()


def flow(kind, dt, *, n=8, closure="smagorinsky", driven=None, nu=None, seed=2_718_281, **options):
    """Decaying turbulence in a box, a driven flow with waves between walls; a fixed step."""
    op = operators(grid(kind, n))
    if closure == "smagorinsky":
        options = {"c_s": C_S} | options
    nu = NU[kind] if nu is None else nu
    driven = driven or ("none" if kind == "box" else "mass_flux")
    if kind == "box":
        start = isotropic(op, 1.0, 2.0, None, seed)
    elif kind == "channel":
        start = wall_turbulence(op, BULK, nu, 1.0, seed)
    else:
        start = tuple(0.3 * c for c in random_velocity(op, seed))
    model = create(closure, grid=op.grid, nu=nu, options=options)
    return moving(Flow(op, nu, model, forcing(driven, op)), start, dt)


def trajectory(simulation, frames, every=1):
    """The present velocity and those that follow, `every` steps apart."""
    found = [copied(simulation.velocity.coefficients)]
    with torch.no_grad():
        for _ in range(frames - 1):
            for _ in range(every):
                simulation.step()
            found.append(copied(simulation.velocity.coefficients))
    return found


def copied(u):
    """Of its own memory."""
    return tuple(c.clone() for c in u)


def residual_of(simulation, scheme="runge_kutta", every=1, **options):
    """The residual of the flow's own equations at its own step."""
    return LesResidual(simulation, every * simulation.control.fixed, scheme, **options)


def plus(u, size, v):
    """``u + size v``."""
    return tuple(a + size * b for a, b in zip(u, v, strict=True))
