"""Order in space: second along finite-volume axes on smooth stretching, walls included."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from solver.discretisation.gradient import VelocityGradient
from solver.flow.forcing import MassFlux, PressureGradient
from solver.flow.momentum import Momentum
from solver.grid.axis import FiniteVolumeAxis, FourierAxis, stretched_faces
from solver.grid.grid import Grid
from tests.grids import (
    SLIP,
    WALL,
    distance,
    minus,
    norm,
    operators,
    orders,
    project,
    run,
    sample,
    simulation,
    uniform,
    values,
    walls,
)

ONE = FourierAxis(1, 1.0)
sin, cos, pi = torch.sin, torch.cos, np.pi
second = pytest.approx(2.0, abs=0.1)


def wall_normal(n: int, stretching: float = 1.7, end=WALL) -> FiniteVolumeAxis:
    return FiniteVolumeAxis(stretched_faces(n, -1.0, 1.0, stretching), end, end)


def viscous_matrix(op) -> torch.Tensor:
    """The Laplacian of u over the cross-section as a dense matrix, one column a unit vector."""
    section = op.local_shape[1:]
    size = int(np.prod(section))
    unit = torch.eye(size, dtype=op.dtype).reshape(size, 1, *section)
    padded = op.pad((unit, torch.zeros_like(unit), torch.zeros_like(unit)))[0]
    return Momentum(VelocityGradient(op), 1.0).equation.laplacian(padded, 0).reshape(size, size).T


# -- operators ------------------------------------------------------------------------------------------------------


def operator_errors(n: int) -> list[float]:
    """Divergence, gradient and Laplacians of smooth functions on a stretched axis, away from the walls."""
    op = operators(Grid(ONE, wall_normal(n), ONE))
    still = lambda x, y, z: 0 * x * y * z  # noqa: E731
    wave, slope = (lambda x, y, z: sin(2 * y + 0.4)), (lambda x, y, z: 2 * cos(2 * y + 0.4))
    bump, bump_slope = (lambda x, y, z: cos(pi * y) + 1), (lambda x, y, z: -pi * sin(pi * y))
    curved = lambda x, y, z: -(pi**2) * cos(pi * y)  # noqa: E731
    v = sample(op, (still, bump, still))
    p = op.to_coefficients(values(op, wave))
    zero = torch.zeros_like(p)
    gradient = op.subtract_gradient((zero, zero, zero), -p)[1]
    padded, momentum = op.pad(sample(op, (bump, bump, still))), Momentum(VelocityGradient(op), 1.0)
    computed = (
        op.divergence(v),
        gradient,
        momentum.equation.laplacian(padded[0], 0),
        momentum.equation.laplacian(padded[1], 1),
    )
    exact = (values(op, bump_slope), values(op, slope, 1), values(op, curved), values(op, curved, 1))
    inside = slice(2, n - 3)
    return [float((op.to_physical(f) - e)[:, inside].abs().max()) for f, e in zip(computed, exact, strict=True)]


def test_operators_are_second_order_on_stretched_cells():
    errors = np.array([operator_errors(n) for n in (32, 64, 128)])
    for name, column in zip(("divergence", "gradient", "lap u", "lap v"), errors.T, strict=True):
        assert orders(column)[-1] == second, name


# -- walls ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stretching", [0.0, 1.7])
def test_stokes_mode_decays_at_second_order(stretching):
    """cos(pi y / 2) exp(-nu pi^2 t / 4) is the slowest eigenmode between walls."""
    errors = []
    for n in (12, 24, 48):
        op = operators(Grid(ONE, wall_normal(n, stretching), ONE))
        slowest = torch.linalg.eigvals(viscous_matrix(op)).real.max()
        errors.append(abs(float(slowest) + pi**2 / 4))
    assert orders(errors) == [second, second]


def test_stokes_mode_in_motion():
    """The same by running the simulation; the time error is far below."""
    errors = []
    for n in (8, 16, 32):
        op = operators(Grid(ONE, wall_normal(n, 1.2), ONE))
        start = sample(op, (lambda x, y, z: cos(pi * y / 2), lambda x, y, z: 0 * y, lambda x, y, z: 0 * y))
        end = run(simulation(op, start, 0.25, 0.25 / 100), 100)
        exact = tuple(f * np.exp(-0.25 * pi**2 / 4 * 0.25) for f in start)
        errors.append(norm(op, minus(end, exact)))
    assert orders(errors) == [second, second]


def poiseuille(y):
    """Laminar profile of unit bulk velocity."""
    return 1.5 * (1 - y**2)


@pytest.mark.parametrize("stretching", [0.0, 1.7])
def test_laminar_channel(stretching):
    """The discrete profile stays put to round-off under either forcing, and is second order from the parabola."""
    nu, errors, pressure = 0.1, [], []
    for n in (8, 16, 32):
        op = operators(Grid(FourierAxis(6, 3.0), wall_normal(n, stretching), FourierAxis(5, 2.0)))
        column = viscous_matrix(operators(Grid(ONE, op.grid.y, ONE)))
        shape = torch.linalg.solve(column, -torch.ones(n, dtype=op.dtype))
        bulk = float((shape * op.tensor(op.grid.y.width)).sum()) / 2
        start = uniform(op, (0.0, 0.0, 0.0))
        op.mean_mode(start[0])[0, 0, :, 0] = shape / bulk
        for forcing in (MassFlux(op, 1.0), PressureGradient(op, nu / bulk)):
            flow = simulation(op, start, nu, 1e-3, forcing)
            assert distance(run(flow, 10), start) < 1e-13
            assert float(flow.state.drive) == pytest.approx(nu / bulk, rel=1e-9)
        errors.append(float((shape / bulk - poiseuille(op.tensor(op.grid.y.centres))).abs().max()))
        pressure.append(abs(1 / bulk - 3.0))
    assert orders(errors)[-1] == second
    assert orders(pressure)[-1] == second


def test_couette_flow_is_exact():
    """A linear profile between moving walls has no discretisation error at all."""
    lower, upper = (type(WALL)((speed, 0.0, speed / 2)) for speed in (-1.0, 1.0))
    op = operators(Grid(FourierAxis(6, 3.0), walls(9, 2.0, lower, upper), FourierAxis(5, 2.0)))
    start = sample(op, (lambda x, y, z: y - 1, lambda x, y, z: 0 * y, lambda x, y, z: (y - 1) / 2))
    assert distance(run(simulation(op, start, 0.1, 1e-3), 10), start) < 1e-13


def duct_series(y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Laminar flow in the square (-1, 1)^2 for unit pressure gradient over viscosity (White, eq. 3-48)."""
    odd = np.arange(1, 120, 2)[:, None, None]
    decay = np.exp(odd * pi / 2 * (np.abs(y)[None, :, None] - 1)) * (
        (1 + np.exp(-odd * pi * np.abs(y)[None, :, None])) / (1 + np.exp(-odd * pi))
    )  # cosh ratio without overflow
    terms = (-1.0) ** ((odd - 1) // 2) * (1 - decay) * np.cos(odd * pi * z[None, None, :] / 2) / odd**3
    return 16 / pi**3 * terms.sum(0)


def test_laminar_square_duct():
    """The steady discrete flow against the series solution, and at rest in the full equations."""
    errors = []
    for n in (8, 16, 24):
        op = operators(Grid(FourierAxis(4, 3.0), wall_normal(n, 1.3), wall_normal(n, 1.3)))
        section = viscous_matrix(operators(Grid(ONE, op.grid.y, op.grid.z)))
        u = torch.linalg.solve(section, -torch.ones(n * n, dtype=op.dtype)).reshape(n, n)
        start = uniform(op, (0.0, 0.0, 0.0))
        op.mean_mode(start[0])[0, 0] = u
        assert distance(run(simulation(op, start, 0.1, 1e-3, PressureGradient(op, 0.1)), 5), start) < 1e-13
        weight = op.tensor(np.outer(op.grid.y.width, op.grid.z.width)) / 4
        gap = u - op.tensor(duct_series(op.grid.y.centres, op.grid.z.centres))
        errors.append(float((gap**2 * weight).sum().sqrt()))
    assert orders(errors[:2]) + orders(errors[1:], ratio=1.5) == [second, second]


# -- Navier-Stokes --------------------------------------------------------------------------------------------------


def slippery(n: int) -> FiniteVolumeAxis:
    return FiniteVolumeAxis(stretched_faces(n, 0.0, pi, 1.1), SLIP, SLIP)


RING = FourierAxis(6, 2 * pi)
PLANES = {
    "xy": (lambda n: Grid(RING, slippery(n), ONE), (0, 1)),
    "zy": (lambda n: Grid(ONE, slippery(n), RING), (2, 1)),
    "xy_cells": (lambda n: Grid(slippery(n), slippery(n), ONE), (0, 1)),
    "yz_cells": (lambda n: Grid(ONE, slippery(n), slippery(n)), (1, 2)),
    "xz_cells": (lambda n: Grid(slippery(n), walls(2, 1.0, SLIP, SLIP), slippery(n)), (0, 2)),
}


def vortices(plane: tuple[int, int]):
    """Two-dimensional Taylor-Green vortices in a plane: exact, decaying as exp(-2 nu t)."""
    flow = [lambda x, y, z: 0 * x * y * z for _ in range(3)]
    a, b = plane
    flow[a] = lambda *x: sin(x[a]) * cos(x[b]) + 0 * sum(x)
    flow[b] = lambda *x: -cos(x[a]) * sin(x[b]) + 0 * sum(x)
    return flow


@pytest.mark.parametrize(("build", "plane"), PLANES.values(), ids=PLANES)
def test_taylor_green_vortices_between_free_slip_walls(build, plane):
    """The full equations against the exact decay, the plane turned every way; the time error is far below."""
    nu, time, steps, errors = 0.05, 0.5, 25, []
    for n in (8, 16, 32):
        op = operators(build(n))
        start = sample(op, vortices(plane))
        end = run(simulation(op, project(op, start), nu, time / steps), steps)
        exact = tuple(f * np.exp(-2 * nu * time) for f in start)
        errors.append(norm(op, minus(end, exact)))
    assert orders(errors)[-1] == second


@pytest.mark.parametrize("plane", [(0, 1), (1, 2), (2, 0)])
def test_taylor_green_vortices_in_a_box_are_exact(plane):
    op = operators(Grid(RING, RING, RING))
    start = sample(op, vortices(plane))
    end = run(simulation(op, start, 0.05, 0.1), 5)
    assert distance(end, [f * np.exp(-0.05) for f in start]) < 1e-14
