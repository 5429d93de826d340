"""One flow, whichever solver finds its pressure; and what a solve that fails says."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

from solver.case.solid_tables import PressureTable
from solver.errors import CaseError, PressureSolveError
from solver.flow.around_solids import flow_around, pressure_solver
from solver.flow.forcing import Forcing, MassFlux, PressureGradient
from solver.flow.runge_kutta import RK3
from solver.grid.grid import Grid
from solver.solids.mask import Solids
from solver.solids.shapes import Box, Sphere
from tests.grids import distance, operators
from tests.solids.flows import CLOSED, OPEN, around, cells, random_flow, simulation, taken

TIGHT = 1e-12
FLOWS = {"channel": CLOSED["channel"], "plane": OPEN["plane"], "space": OPEN["space"]}
PETSC = pytest.mark.skipif(importlib.util.find_spec("petsc4py") is None, reason="petsc4py is not installed")
OTHERS = [
    pytest.param({"solver": "box"}, id="box"),
    pytest.param({"solver": "auto"}, id="auto"),
    pytest.param({"solver": "multigrid", "guesses": 5}, id="guesses"),
    pytest.param({"solver": "krylov"}, id="gamg", marks=PETSC),
    pytest.param({"solver": "krylov", "preconditioner": "multigrid"}, id="fcg-multigrid", marks=PETSC),
]


def moved(name: str, keys: dict) -> tuple[list, tuple[float, ...]]:
    """Velocity after four steps, and the impulse on the solids."""
    momentum, projection = around(*FLOWS[name], 0.02, PressureTable(tolerance=TIGHT, **keys))
    op = momentum.operators
    forcing = Forcing() if op.grid.is_open else PressureGradient(op, 1.0)
    start = tuple(0.3 * f for f in random_flow(projection))
    flow = simulation(momentum, projection, start, 4e-3, forcing)
    for _ in range(4):
        flow.step()
    return list(flow.velocity.coefficients), tuple(taken(flow))


@pytest.fixture(scope="module")
def by_multigrid() -> dict[str, tuple[list, tuple[float, ...]]]:
    """The flows, once."""
    return {name: moved(name, {"solver": "multigrid"}) for name in FLOWS}


@pytest.mark.parametrize("name", FLOWS)
@pytest.mark.parametrize("keys", OTHERS)
def test_same_flow(by_multigrid, name, keys):
    velocity, impulse = moved(name, keys)
    wanted, before = by_multigrid[name]
    assert distance(velocity, wanted) < 1e-9
    assert max(abs(a - b) for a, b in zip(impulse, before, strict=True)) < 1e-9
    assert max(abs(a) for a in before) > 1e-4


@pytest.mark.parametrize("name", FLOWS)
@pytest.mark.parametrize("solver", ["multigrid", "box"])
@pytest.mark.parametrize("dt", [1e-9, 4e-3])
def test_single_precision_at_the_default_tolerance(name, solver, dt):
    """The same flow as in double precision, to that of the fields."""
    ends = []
    for dtype in (torch.float64, torch.float32):
        momentum, projection = around(*FLOWS[name], 0.02, PressureTable(solver=solver), dtype)
        op = momentum.operators
        start = tuple(0.3 * f for f in random_flow(projection))
        forcing = Forcing() if op.grid.is_open else PressureGradient(op, 1.0)
        flow = simulation(momentum, projection, start, dt, forcing)
        for _ in range(3):
            flow.step()
        assert projection.tally.worst_residual <= 1e-8
        ends.append([f.double() for f in flow.velocity.coefficients])
    assert distance(*ends) < 2e-5


@pytest.mark.parametrize(("name", "solids", "chosen"), [
    ("channel", False, "direct"), ("channel", True, "multigrid"), ("plane", True, "box"),
])  # fmt: skip
def test_the_default_is_chosen_by_the_flow(name, solids, chosen):
    grid, shapes = FLOWS[name]
    bodies = Solids.from_shapes(grid, shapes) if solids else None
    assert pressure_solver(PressureTable(), operators(grid), bodies)[1] == chosen


def test_a_failed_solve_says_why():
    momentum, projection = around(*FLOWS["channel"], 0.02)
    flow = simulation(momentum, projection, random_flow(projection), 4e-3)
    projection.solver.max_iterations = 1
    with pytest.raises(PressureSolveError, match="DIVERGED_MAX_IT after 1 iterations, relative residual"):
        flow.step()


def test_the_tally_counts_every_solve():
    momentum, projection = around(*FLOWS["channel"], 0.02)
    flow = simulation(momentum, projection, random_flow(projection), 4e-3)
    before = projection.tally.solves
    flow.step()
    found = projection.summary(1)["pressure"]
    assert found["solves"] == before + RK3.stages
    assert found["iterations_per_step"] >= RK3.stages
    assert 0.0 < found["worst_residual"] <= 1e-12


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_mass_flux_that_cannot_pass_is_refused(dtype):
    """Also where the barrier is no plane; a hole of one cell is a way."""
    line = cells(8)
    grid = Grid(line, cells(8), cells(8))
    step = [Box((0.25, -1.0, -1.0), (0.375, 0.5, 2.0)), Box((0.25, 0.375, -1.0), (0.75, 0.5, 2.0))]
    barrier = [*step, Box((0.625, 0.375, -1.0), (0.75, 2.0, 2.0))]
    op = operators(grid, dtype)
    for shapes in ([Box((0.5, -1.0, -1.0), (0.6, 2.0, 2.0))], [*barrier, Box((0.0, 0.0, 0.0), (1.0, 0.13, 1.0))]):
        _, projection = flow_around(op, 0.02, Solids.from_shapes(grid, shapes), PressureTable())
        with pytest.raises(CaseError, match=r"\[flow.forcing\].*no way leads"):
            MassFlux(op, 1.0, projection.response())
    plate = np.zeros(grid.shape, dtype=bool)
    plate[4] = True
    plate[4, 3, 5] = False
    _, projection = flow_around(op, 0.02, Solids(grid, plate), PressureTable())
    assert 0.0 < float(MassFlux(op, 1.0, projection.response()).gain) < 0.1


def test_a_step_of_no_length_leaves_a_finite_pressure():
    momentum, projection = around(*FLOWS["channel"], 0.02)
    flow = simulation(momentum, projection, random_flow(projection), None)
    flow.step(longest=1e-13)
    assert flow.dt == 1e-13
    assert bool(torch.isfinite(flow.flow.pressure_coefficients(flow.state)).all())
    assert flow.max_divergence < 1e-9


def test_blocked_ways_are_refused():
    grid, _ = OPEN["space"]
    for wall in (Box((0.8, -1.0, -1.0), (1.2, 2.0, 2.0)), Box((-1.0, -1.0, -1.0), (0.2, 2.0, 2.0))):
        with pytest.raises(CaseError, match=r"\[solids\].*inflow.*(open a way|leave fluid)"):
            around(grid, [wall], 0.02)


BODIES = {  # an enclosed fluid, and a body that almost fills the box
    "hollow": (Box((0.2, 0.2, 0.2), (0.8, 0.8, 0.8)), Box((0.4, 0.4, 0.4), (0.6, 0.6, 0.6))),
    "as large as the box": (Sphere((0.5, 0.5, 0.5), 0.49), None),
}


@pytest.mark.parametrize("name", BODIES)
def test_same_forces_around_hollow_and_large_bodies(name):
    grid, (outer, inner) = Grid(*(cells(10) for _ in range(3))), BODIES[name]
    solid = Solids.from_shapes(grid, [outer]).solid
    if inner is not None:
        solid &= ~Solids.from_shapes(grid, [inner]).solid
    impulses = []
    for solver in ("box", "multigrid"):
        table = PressureTable(solver=solver, tolerance=1e-11)
        momentum, projection = flow_around(operators(grid), 0.02, Solids(grid, solid), table)
        drive = PressureGradient(momentum.operators, 1.0)
        flow = simulation(momentum, projection, random_flow(projection), 4e-3, drive)
        for _ in range(3):
            flow.step()
        impulses.append(taken(flow))
    assert abs(impulses[0][0]) > 1e-4
    assert impulses[1] == pytest.approx(impulses[0], abs=1e-8)


def test_a_solver_that_gives_up_is_called_as_the_case_calls_it():
    """Not by the iteration that it shares with multigrid."""
    rng = np.random.default_rng(5)
    grid = Grid(cells(9, 6.0), cells(9, 0.4), cells(9, 40.0))
    solids = Solids(grid, rng.random(grid.shape) < 0.6)
    op = operators(grid)
    solver, name = pressure_solver(PressureTable(solver="box", tolerance=1e-13), op, solids)
    rhs = torch.from_numpy(rng.standard_normal(grid.shape))
    with pytest.raises(PressureSolveError, match="pressure solver 'box'"):
        solver.solve(rhs, torch.zeros_like(rhs))
    assert name == "box"
