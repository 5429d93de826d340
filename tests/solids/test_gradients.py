"""Steps around solids are differentiable: gradients against central differences, and the adjoint of a solve."""

from __future__ import annotations

import pytest
import torch

from closures.registry.registry import create
from solver.case.solid_tables import PressureTable
from solver.flow.around_solids import pressure_solver
from solver.flow.forcing import Forcing, MassFlux
from solver.pressure import adjoint
from solver.solids.mask import Solids
from tests.grids import operators, random_components
from tests.solids.flows import CLOSED, EXACT, OPEN, around, simulation

SEED = 161_803
FLOWS = {"channel": CLOSED["channel"], "seam": CLOSED["seam"], "plane": OPEN["plane"]}


@pytest.mark.parametrize("solver", ["multigrid", "box"])
@pytest.mark.parametrize("name", FLOWS)
def test_the_adjoint_of_a_solve_is_a_solve(name, solver):
    grid, shapes = FLOWS[name]
    op, (_, projection) = operators(grid), around(grid, shapes, 0.02)
    chosen = pressure_solver(PressureTable(solver=solver, tolerance=1e-12), op, Solids.from_shapes(grid, shapes))[0]
    r, dr, g = (random_components(op, SEED + i)[1][:1] for i in range(3))
    with torch.enable_grad():
        r.requires_grad_()
        phi, report = adjoint.solve(chosen, r, torch.zeros_like(r), projection.volume)
        (phi * g).sum().backward()
    assert report.converged
    along = torch.zeros_like(dr)
    chosen.solve(dr, along)
    assert float((r.grad * dr).sum()) == pytest.approx(float((along * g).sum()), rel=1e-9)
    assert float(r.grad[projection.volume[None] == 0].abs().sum()) == 0.0


@pytest.mark.parametrize("name", FLOWS)
def test_gradients_through_steps(name):
    """Of a functional of flow and pressure after two steps, with respect to the size of a part of the initial field."""
    grid, shapes = FLOWS[name]

    def after(amount: torch.Tensor) -> torch.Tensor:
        momentum, projection = around(grid, shapes, 0.02, EXACT)
        op = momentum.operators
        base, part = (random_components(op, SEED + i) for i in range(2))
        start = tuple(0.3 * a + amount * b for a, b in zip(base, part, strict=True))
        forcing = Forcing() if grid.is_open else MassFlux(op, 0.4, projection.response())
        flow = simulation(momentum, projection, start, 4e-3, forcing, create("smagorinsky", grid=grid, nu=0.02))
        state = flow.stepper(flow.stepper(flow.state))
        weights = random_components(op, SEED + 7)
        work = sum((w * f**2).sum() for w, f in zip(weights, state.velocity.coefficients, strict=True))
        return work + (weights[1][:1] * flow.flow.pressure_coefficients(state)).sum()

    amount = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        after(amount).backward()
    step = 1e-4
    above, below = (after(torch.tensor(0.2 + sign * step, dtype=torch.float64)) for sign in (1, -1))
    difference = (above - below) / (2 * step)
    assert float(amount.grad) == pytest.approx(float(difference), rel=1e-6)
    assert abs(float(amount.grad)) > 1e-3
