"""Bodies made of cells drawn at random: the pressure that is reported is the one that was found, and nothing leaks."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.sparse.linalg import norm as sparse_norm

from solver.case.solid_tables import PressureTable
from solver.discretisation.velocity import Velocity
from solver.errors import CaseError
from solver.flow.around_solids import flow_around
from solver.pressure.krylov import box_solver
from solver.pressure.multigrid import MultigridPressure
from solver.pressure.poisson import Poisson
from solver.pressure.report import PressureSolveFailure
from solver.solids.mask import Solids
from tests.grids import norm, operators, product, random_components
from tests.pressure.problems import assembled, noise
from tests.properties.strategies import SEEDS, bodies, cell_grids, streams

TOLERANCE = 1e-10


CLOSED = cell_grids().flatmap(bodies)
OPEN = streams().flatmap(bodies)


def true_residual(poisson: Poisson, rhs: torch.Tensor, phi: torch.Tensor) -> tuple[float, float]:
    """``|b - A phi| / |b|``, both multiplied by volumes, from the assembled matrix; and what rounding makes of it."""
    index, matrix = poisson.unknowns, assembled(poisson)
    b, x = poisson.source(rhs)[index].numpy(), poisson.layout.pack(phi, torch.float64)[index].numpy()
    size = max(float(np.linalg.norm(b)), 1e-300)
    rounding = 1e-15 * sparse_norm(matrix, np.inf) * float(np.linalg.norm(x))
    return float(np.linalg.norm(b - matrix @ x)) / size, rounding / size


@given(CLOSED, SEEDS, st.sampled_from(["multigrid", "box"]))
def test_the_residual_that_is_reported_is_the_true_one(solids: Solids, seed: int, method: str):
    poisson = Poisson(operators(solids.grid), solids)
    assume(len(poisson.unknowns) > 0)
    rhs = noise(poisson, seed)
    phi = torch.zeros_like(rhs)
    chosen = box_solver(poisson) if method == "box" else None
    try:
        report = MultigridPressure(poisson, TOLERANCE, preconditioner=chosen).solve(rhs, phi)
    except PressureSolveFailure as failure:
        report = failure.report
    found, rounding = true_residual(poisson, rhs, phi)
    assert report.converged or method == "box"  # sponges are not what it is for
    assert found <= 2 * TOLERANCE + rounding or not report.converged
    assert abs(found - report.residual) <= 0.1 * report.residual + rounding


@given(st.one_of(CLOSED, OPEN), SEEDS)
def test_flow_around_bodies_is_solenoidal_and_keeps_its_energy(solids: Solids, seed: int):
    """``<u, C(u) u> = 0`` where nothing enters; blocked faces stay at rest."""
    grid = solids.grid
    op = operators(grid)
    try:
        momentum, projection = flow_around(op, 0.0, solids, PressureTable(tolerance=1e-12))
    except CaseError:  # bodies that cut the inflow off
        assume(False)
    start = random_components(op, seed)
    velocity = projection(projection(start, 0.0)[0], 0.0)[0]
    smallest = min(float(np.min(axis.width)) for axis in grid.axes)
    assert float(op.divergence(velocity).abs().max()) <= 1e-9 * norm(op, start) / smallest
    for f, free in zip(velocity, projection.walls.free, strict=True):
        assert float((f * (1 - free)).abs().max()) == 0.0
    if grid.is_open:
        return
    rate = projection.walls.masked(momentum.tendency(Velocity(momentum.strain, velocity), None))
    size = norm(op, start)  # what is left may be round-off: bodies can leave no way
    assert abs(product(op, velocity, rate)) <= 1e-9 * size * (norm(op, rate) + size**2 / smallest)
