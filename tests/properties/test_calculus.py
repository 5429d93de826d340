"""What the discretisation promises, on grids that nobody chose: adjointness, projection, energy, dissipation."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given

from solver.grid.grid import Grid
from tests.grids import (
    distance,
    minus,
    norm,
    operators,
    product,
    project,
    random_components,
    random_scalar,
    scalar_product,
    tendency,
)
from tests.properties.strategies import SEEDS, grids

ROUND_OFF = 1e-12  # of sums of products on grids whose cells differ by hundreds


def smallest(grid: Grid) -> float:
    """The shortest distance over which products are formed: it says how large they are before they cancel."""
    return min(float(np.min(axis.width)) for axis in grid.axes)


@given(grids(), SEEDS)
def test_divergence_is_minus_the_transpose_of_gradient(grid: Grid, seed: int):
    op = operators(grid)
    p, u = random_scalar(op, seed), random_components(op, seed + 1)
    zero = torch.zeros_like(p)
    g = tuple(-f for f in op.subtract_gradient((zero, zero, zero), p))
    scale = norm(op, g) * norm(op, u)
    assert abs(scalar_product(op, p, op.divergence(u)) + product(op, g, u)) <= ROUND_OFF * scale


@given(grids(), SEEDS)
def test_projection_is_orthogonal(grid: Grid, seed: int):
    op = operators(grid)
    u = random_components(op, seed)
    once = project(op, u)
    left = float(op.to_physical(op.divergence(once)).abs().max())
    assert left <= 100 * ROUND_OFF * norm(op, u) / smallest(grid)
    assert distance(project(op, once), once) <= 100 * ROUND_OFF * max(norm(op, u), 1.0)
    assert abs(product(op, once, minus(u, once))) <= 10 * ROUND_OFF * norm(op, u) ** 2


@given(grids(), SEEDS)
def test_convection_conserves_energy_and_viscosity_drains_it(grid: Grid, seed: int):
    op = operators(grid)
    u = project(op, random_components(op, seed))
    rate = tendency(op, u)
    assert abs(product(op, u, rate)) <= ROUND_OFF * norm(op, u) * (norm(op, rate) + norm(op, u) ** 2 / smallest(grid))
    viscous = minus(tendency(op, u, nu=1.0), rate)
    assert product(op, u, viscous) <= 10 * ROUND_OFF * norm(op, u) * (norm(op, viscous) + norm(op, rate))
