"""Momentum and mass to round-off: what the fluid loses, solids and walls take; what enters leaves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from closures.algebraic.wale import Wale
from closures.registry.registry import create
from solver.case.solid_tables import PressureTable
from solver.discretisation.calculus import Operators
from solver.discretisation.velocity import Velocity
from solver.flow.forcing import MassFlux, PressureGradient, bulk_velocity
from solver.flow.runge_kutta import RK3
from solver.flow.simulation import Simulation
from solver.grid.axis import FiniteVolumeAxis, NoSlip, Outflow
from solver.grid.axis import Inflow as InflowEnd
from solver.grid.grid import Grid
from tests.grids import distance, mean, operators, random_components
from tests.grids import simulation as plain
from tests.solids.flows import CLOSED, EXACT, OPEN, PLANE, around, cells, random_flow, simulation, taken, uneven

NU, GRADIENT, BULK = 0.05, 0.7, 0.4
PERIODIC_IN_X = [name for name in CLOSED if name != "cavity"]
LOOSE = PressureTable(tolerance=1e-3)  # the balance does not wait for the solver


def momentum_of(op: Operators, velocity) -> np.ndarray:
    """Total momentum of the fluid, x, y, z, per unit density; y of walled boxes without what walls add."""
    return np.array([mean(op, f, i) * op.grid.volume for i, f in enumerate(velocity)])


def friction(flow: Simulation, velocity: Velocity) -> np.ndarray:
    """Viscous force of the walls of y on the fluid at this instant, from the slope over half a cell."""
    op, force = flow.operators, np.zeros(3)
    line = op.grid.volume_axes[1]
    if line.periodic:
        return force
    for component in (0, 2):
        f = velocity.coefficients[component]
        area = torch.ones((1, 1), dtype=op.dtype)
        for d in (0, 2):
            axis = op.grid.axes[d]
            staggered = d == component and d in op.volume_axes
            size = axis.spacing[1:] if staggered else axis.width
            area = area * op.along(np.asarray(size), d).reshape((-1, 1) if d == 0 else (1, -1))
        for end, width in ((0, line.width[0]), (-1, line.width[-1])):
            force[component] -= flow.nu * float((f[0, :, end] * area).sum()) / (0.5 * width)
    return force


def impulses(flow: Simulation, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What walls and drive gave the fluid in some steps, stage by stage, and what the solids took."""
    op = flow.operators
    wall, drive, solids, seen = np.zeros(3), np.zeros(3), np.zeros(3), []
    tend, correct = flow.flow.tendency, flow.forcing.correct

    def tendency(velocity, term, stress):
        seen.append(friction(flow, velocity))
        return tend(velocity, term, stress)

    def corrected(velocity, span, *known):
        result, given = correct(velocity, span, *known)
        drive[0] += float(flow.forcing.drive(given, span)) * span * op.grid.volume
        return result, given

    flow.flow.tendency, flow.forcing.correct = tendency, corrected
    for _ in range(steps):
        seen.clear()
        flow.step()
        solids += taken(flow)
        for stage, force in enumerate(seen):
            before = seen[stage - 1] if stage else 0.0
            wall += flow.dt * (RK3.gamma[stage] * force + RK3.rho[stage] * before)
    return wall, drive, solids


@pytest.mark.parametrize("name", PERIODIC_IN_X)
@pytest.mark.parametrize("drive", ["gradient", "flux"])
def test_fluid_solids_walls_and_drive_balance(name, drive):
    grid, shapes = CLOSED[name]
    momentum, projection = around(grid, shapes, NU, LOOSE)
    op = momentum.operators
    forcing = PressureGradient(op, GRADIENT) if drive == "gradient" else MassFlux(op, BULK, projection.response())
    flow = simulation(momentum, projection, random_flow(projection), 4e-3, forcing, Wale(grid=grid, nu=NU))
    start = momentum_of(op, flow.velocity.coefficients)
    wall, given, lost = impulses(flow, 3)
    gained = momentum_of(op, flow.velocity.coefficients) - start
    closed = [d for d in range(3) if grid.axes[d].periodic and grid.axes[d].points > 1]  # no wall takes the pressure
    size = np.abs(lost).max()
    assert size > 1e-4
    assert abs(lost[0]) > 1e-2 * size
    np.testing.assert_allclose((gained + lost - wall - given)[closed], 0.0, atol=1e-13 * max(size, 1.0))


def test_forces_know_the_eddy_viscosity():
    """A body in periodic cells, where nothing but it takes momentum; nu_t many times nu right at its faces."""
    momentum, projection = around(*CLOSED["periodic"], 1e-3, LOOSE)
    op, model = momentum.operators, create("smagorinsky", grid=CLOSED["periodic"][0], nu=1e-3, options={"c_s": 0.5})
    forcing = PressureGradient(op, GRADIENT)
    flow = simulation(momentum, projection, random_flow(projection), 4e-3, forcing, model)
    start, t = momentum_of(op, flow.velocity.coefficients), flow.t
    lost = np.zeros(3)
    for _ in range(3):
        flow.step()
        lost += taken(flow)
    assert float(flow.present_term().nu_t.max()) > 5 * 1e-3
    gained = momentum_of(op, flow.velocity.coefficients) - start
    given = np.array([GRADIENT * (flow.t - t) * op.grid.volume, 0.0, 0.0])
    np.testing.assert_allclose(gained + lost, given, rtol=0, atol=1e-9 * given[0])


@pytest.mark.parametrize("name", PERIODIC_IN_X)
def test_mass_flux_around_solids(name):
    momentum, projection = around(*CLOSED[name], NU)
    op = momentum.operators
    flow = simulation(momentum, projection, random_flow(projection), 4e-3, MassFlux(op, BULK, projection.response()))
    for _ in range(5):
        flow.step()
        assert float(bulk_velocity(op, flow.velocity.coefficients[0])) == pytest.approx(BULK, abs=1e-13)
        assert flow.max_divergence < 1e-9
        assert distance(projection.walls.masked(flow.velocity.coefficients), flow.velocity.coefficients) == 0.0
    assert float(flow.state.drive) > 0


@pytest.mark.parametrize("tolerance", [1e-5, 1e-11])
@pytest.mark.parametrize("name", OPEN)
def test_what_enters_leaves(name, tolerance):
    grid, shapes = OPEN[name]
    momentum, projection = around(grid, shapes, 0.02, PressureTable(tolerance=tolerance))
    op, outlet = momentum.operators, projection.outlet
    start = tuple(0.2 * f for f in random_components(op, 5))
    flow = simulation(momentum, projection, (start[0] + 1.0, start[1], start[2]), None)
    area = op.along(grid.y.width, 1) * op.along(grid.z.width, 2)
    source = 0.0
    for _ in range(20):
        flow.step()
        u = flow.velocity.coefficients[0]
        entering, leaving = (float((f * area).sum()) for f in (op.inflow[0], u[:, -1:]))
        assert leaving == pytest.approx(entering, rel=1e-13)
        source = max(source, float(projection.solver.poisson.volume.max()) * flow.max_divergence)
    assert entering == pytest.approx(float(outlet.entering), rel=1e-13)
    assert source < 20 * tolerance * float(area.sum())
    profile = u[0, -1]
    assert float(profile.std()) > 1e-3  # the wake leaves too, not only the mean
    assert float((profile[outlet.open[0, 0] == 0]).abs().sum()) == 0.0


def poiseuille(n: int, ends: tuple[float, float] = (0.0, 1.0)) -> tuple[tuple[float, float], ...]:
    """The profile that the scheme itself finds steady: ``y (1 - y) + h^2 / 4``, of mean 1."""
    h = (ends[1] - ends[0]) / n
    y = ends[0] + h * (np.arange(n) + 0.5)
    u = (y - ends[0]) * (ends[1] - y) + 0.25 * h**2
    return tuple(zip(y.tolist(), (u / u.mean()).tolist(), strict=True))


@pytest.mark.parametrize("solver", ["direct", "multigrid", "box"])
def test_plane_poiseuille_flow_passes_unchanged(solver):
    n, profile = 8, poiseuille(8)
    x = FiniteVolumeAxis(
        np.array([0.0, 0.3, 0.5, 0.9, 1.2, 1.4, 1.9, 2.3, 2.5]), InflowEnd((1.0, 0.0, 0.0), profile), Outflow()
    )
    grid = Grid(x, cells(n, 1.0, NoSlip()), PLANE)
    op = operators(grid)
    momentum, projection = around(grid, [], 0.1, PressureTable(solver=solver, tolerance=1e-12))
    factor = torch.tensor([f for _, f in profile], dtype=op.dtype)
    zero = [torch.zeros_like(f) for f in projection.walls.free]
    flow = simulation(momentum, projection, (zero[0] + factor[:, None], zero[1], zero[2]), 5e-3)
    for _ in range(20):
        flow.step()
    u, v, _ = flow.velocity.coefficients
    assert float((u - factor[:, None]).abs().max()) < 1e-10
    assert float(v.abs().max()) < 1e-10
    p = flow.state.pressure.kinematic[0]
    steady = (p[1:] - p[:-1]) / torch.tensor(x.spacing[1:-1])[:, None, None]
    h, largest = 1.0 / n, max(f for _, f in profile)
    assert largest > 1.4
    curvature = -2.0 * 0.1 / np.mean([y * (1 - y) + 0.25 * h**2 for y, _ in profile])
    torch.testing.assert_close(steady, torch.full_like(steady, curvature), rtol=1e-7, atol=0.0)


def test_solids_none_is_the_plain_box():
    """Masks of a box without bodies change nothing."""
    grid = Grid(cells(6), cells(7, 1.0, NoSlip()), uneven(5, 1.0))
    momentum, projection = around(grid, [], NU, EXACT)
    start = random_flow(projection)
    flows = [
        plain(momentum.operators, start, NU, 5e-3, PressureGradient(momentum.operators, 1.0)),
        simulation(momentum, projection, start, 5e-3, PressureGradient(momentum.operators, 1.0)),
    ]
    for flow in flows:
        for _ in range(4):
            flow.step()
    assert distance(*(flow.velocity.coefficients for flow in flows)) < 1e-11
