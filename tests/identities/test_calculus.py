"""Divergence, gradient, velocity gradient and Laplacian as the continuum relates them, on every kind of grid."""

from __future__ import annotations

import pytest
import torch

from solver.discretisation.gradient import VelocityGradient
from solver.discretisation.staggered import inner
from solver.discretisation.velocity import Velocity
from solver.flow.momentum import Momentum
from solver.grid.axis import FourierAxis, FreeSlip, NoSlip
from solver.grid.grid import Grid
from tests.grids import (
    GRIDS,
    distance,
    minus,
    norm,
    operators,
    product,
    project,
    random_components,
    random_scalar,
    random_velocity,
    scalar_product,
    tendency,
    walls,
)

SEED = 918_273
SIGN = {NoSlip: -1.0, FreeSlip: 1.0}  # of a ghost, relative to the cell it mirrors
on_every_grid = pytest.mark.parametrize("name", GRIDS)


def gradient(op, p):
    """``grad p`` where the components live."""
    zero = torch.zeros_like(p)
    return tuple(-f for f in op.subtract_gradient((zero, zero, zero), p))


@on_every_grid
def test_divergence_is_minus_the_transpose_of_gradient(name):
    op = operators(name)
    p, u = random_scalar(op, SEED), random_components(op, SEED + 1)
    g = gradient(op, p)
    scale = norm(op, g) * norm(op, u)
    assert scalar_product(op, p, op.divergence(u)) == pytest.approx(-product(op, g, u), abs=1e-12 * scale)


@on_every_grid
def test_projection_removes_the_divergence_and_nothing_else(name):
    op = operators(name)
    u = random_components(op, SEED)
    assert float(op.divergence(u).abs().max()) > 0.01
    once = project(op, u)
    assert float(op.to_physical(op.divergence(once)).abs().max()) < 1e-12
    assert distance(project(op, once), once) < 1e-13  # idempotent: free fields are left alone
    assert product(op, once, minus(u, once)) == pytest.approx(0.0, abs=1e-13)  # orthogonal: the nearest such field
    g = gradient(op, random_scalar(op, SEED))
    assert norm(op, project(op, g)) < 1e-12 * norm(op, g)


@on_every_grid
def test_viscous_term_dissipates(name):
    """``-<u, lap u> >= 0`` and symmetric: no boundary, no stretching feeds energy to the flow."""
    op = operators(name)
    u, v = random_velocity(op, SEED), random_velocity(op, SEED + 1)
    still = tendency(op, u)
    lap_u, lap_v = minus(tendency(op, u, nu=1.0), still), minus(tendency(op, v, nu=1.0), tendency(op, v))
    assert product(op, u, lap_u) < -0.1 * norm(op, u) ** 2
    scale = norm(op, lap_u) * norm(op, v)
    assert product(op, v, lap_u) == pytest.approx(product(op, u, lap_v), abs=1e-12 * scale)


@pytest.mark.parametrize("name", ["box", "box_even"])
def test_dissipation_is_the_squared_gradient_in_a_box(name):
    op = operators(name)
    nu, u = 0.37, random_velocity(operators(name), SEED)
    g = Velocity(VelocityGradient(op), u).gradient
    squared = sum(float((d**2).mean()) for row in g for d in row)
    drained = -product(op, u, minus(tendency(op, u, nu), tendency(op, u)))
    assert drained == pytest.approx(nu * squared, rel=1e-12)


@on_every_grid
def test_dissipation_is_the_squared_gradient_where_the_scheme_has_it(name):
    """``-<u, lap u> = <grad u : grad u>`` between ends at rest, on any stretching."""
    op = operators(name)
    u = random_components(op, SEED)
    squared = Momentum(VelocityGradient(op), 1.0).equation.squared_gradient(
        Velocity(VelocityGradient(op), u).padded_coefficients
    )
    drained = -product(op, u, minus(tendency(op, u, 1.0), tendency(op, u)))
    assert float(squared) == pytest.approx(drained, rel=1e-12)


def test_moving_walls_and_inflows_give_what_is_dissipated_beyond_the_loss_of_energy():
    """``<grad u : grad u> + <u, lap u>`` is the work of the walls, ``U (U - u) / (dy / 2)`` a unit area."""
    speed, n = 0.7, 8
    op = operators(Grid(FourierAxis(6, 1.0), walls(n, 2.0, upper=NoSlip((speed, 0.0, 0.0))), FourierAxis(6, 1.0)))
    u = random_components(op, SEED)
    squared = Momentum(VelocityGradient(op), 1.0).equation.squared_gradient(
        Velocity(VelocityGradient(op), u).padded_coefficients
    )
    drained = -product(op, u, minus(tendency(op, u, 1.0), tendency(op, u)))
    near = float(op.mean_mode(u[0])[0, 0, -1, 0])
    work = speed * (speed - near) / (0.5 * op.grid.y.width[-1]) / op.grid.y.length
    assert float(squared) - drained == pytest.approx(work, rel=1e-11)


@on_every_grid
def test_gradient_is_trace_free(name):
    op = operators(name)
    g = Velocity(VelocityGradient(op), random_velocity(op, SEED)).gradient
    size = max(float(d.abs().max()) for row in g for d in row)
    assert float((g[0][0] + g[1][1] + g[2][2]).abs().max()) < 1e-13 * size


@on_every_grid
def test_ghosts_put_the_wall_value_on_the_wall(name):
    """Padded tangential velocity averages to zero on no-slip walls and has no slope on free-slip ones."""
    op = operators(name)
    padded = op.pad(random_components(op, SEED))
    for axis in op.volume_axes:
        line = op.grid.axes[axis]
        for component in set(range(3)) - {axis}:
            f = padded[component]
            for other in set(op.volume_axes) - {axis}:
                f = inner(f, other)
            ghosts = f.select(axis - 3, 0), f.select(axis - 3, -1)
            edges = f.select(axis - 3, 1), f.select(axis - 3, -2)
            if line.periodic:
                assert distance(ghosts, edges[::-1]) == 0.0
            else:
                signs = (SIGN[type(end)] for end in (line.lower, line.upper))
                assert distance(ghosts, [sign * edge for sign, edge in zip(signs, edges, strict=True)]) == 0.0
