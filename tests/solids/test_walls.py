"""No-slip faces of solids: what they conserve, and that a wall made of solid cells is a wall."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from closures.algebraic.wale import Wale
from solver.discretisation import fusion
from solver.discretisation.velocity import Velocity
from solver.flow.closure import EddyViscosity, SubgridStress
from solver.flow.forcing import PressureGradient
from solver.grid.axis import FiniteVolumeAxis, NoSlip
from solver.grid.grid import Grid
from solver.solids.mask import Solids
from solver.solids.shapes import Box
from solver.solids.walls import SolidWalls
from tests.grids import distance, minus, norm, operators, orders, product, random_components, random_values
from tests.grids import simulation as plain_simulation
from tests.solids.flows import CLOSED, PLANE, SEED, SLIP, around, cells, random_flow, simulation

NU = 0.13
in_every_box = pytest.mark.parametrize("name", CLOSED)


@in_every_box
def test_convection_around_solids_conserves_kinetic_energy(name):
    momentum, projection = around(*CLOSED[name], nu=0.0)
    op, u = momentum.operators, random_flow(projection)
    rate = momentum.tendency(Velocity(momentum.strain, u), None)
    scale = norm(op, u) * norm(op, rate)
    assert scale > 0.1 * norm(op, u) ** 2
    assert product(op, u, rate) == pytest.approx(0.0, abs=1e-13 * scale)
    v = random_components(op, SEED)  # neither solenoidal nor zero in solids: the identity is not vacuous
    free = momentum.tendency(Velocity(momentum.strain, v), None)
    assert abs(product(op, v, free)) > 1e-5 * norm(op, v) * norm(op, free)


@in_every_box
def test_diffusion_is_symmetric_and_drains(name):
    viscous, projection = around(*CLOSED[name], nu=1.0)
    still, _ = around(*CLOSED[name], nu=0.0)
    op, u, v = viscous.operators, random_flow(projection), random_flow(projection, SEED + 1)

    def laplacian(f):
        rates = (m.tendency(Velocity(m.strain, f), None) for m in (viscous, still))
        return minus(*rates)

    lap_u, lap_v = laplacian(u), laplacian(v)
    assert product(op, u, lap_u) < -1.0 * norm(op, u) ** 2
    scale = norm(op, lap_u) * norm(op, v)
    assert product(op, v, lap_u) == pytest.approx(product(op, u, lap_v), abs=1e-13 * scale)


@in_every_box
@pytest.mark.parametrize("kind", ["viscosity", "stress"])
def test_subgrid_terms_neither_reach_nor_come_from_solids(name, kind):
    """What a closure says about solid cells changes nothing; an eddy viscosity drains."""
    momentum, projection = around(*CLOSED[name], nu=0.0)
    op, walls, u = momentum.operators, projection.walls, random_flow(projection)
    still = momentum.tendency(Velocity(momentum.strain, u), None)

    def gained(fields):
        term = EddyViscosity(fields[0] ** 2) if kind == "viscosity" else SubgridStress(tuple(fields))
        return walls.masked(minus(momentum.tendency(Velocity(momentum.strain, u), term), still))

    fields = random_values(op, SEED, 6)
    other = [torch.where(walls.fluid > 0, f, 7.0) for f in fields]
    assert distance(gained(fields), gained(other)) < 1e-12 * norm(op, gained(fields))
    if kind == "viscosity":
        assert product(op, u, gained(fields)) < -1e-2 * norm(op, u) * norm(op, gained(fields))


@in_every_box
def test_gradient_vanishes_in_solids_and_has_no_trace(name):
    momentum, projection = around(*CLOSED[name], nu=0.0)
    g = Velocity(momentum.strain, random_flow(projection)).gradient
    solid = projection.walls.fluid == 0
    size = max(float(d.abs().max()) for row in g for d in row)
    assert max(float(d[solid].abs().max()) for row in g for d in row) == 0.0
    assert float((g[0][0] + g[1][1] + g[2][2]).abs().max()) < 1e-10 * size  # the tolerance of the pressure


def test_a_wall_of_solid_cells_is_a_wall_of_the_box():
    """A turbulent-like flow between slabs is that between walls, subgrid model and pressure included."""
    faces = np.linspace(0.0, 1.0, 9)
    thick = np.concatenate([[-0.4, -0.15], faces, [1.1, 1.3]])  # the cells of the slabs differ
    x, z = cells(8, 2.0), cells(6, 1.5)
    walled = operators(Grid(x, FiniteVolumeAxis(faces, NoSlip(), NoSlip()), z))
    grid = Grid(x, FiniteVolumeAxis(thick, SLIP, SLIP), z)
    slabs = [Box((-1.0, -1.0, -1.0), (3.0, 0.0, 3.0)), Box((-1.0, 1.0, -1.0), (3.0, 2.0, 3.0))]
    momentum, projection = around(grid, slabs, NU)
    inside = slice(2, -2)
    start = random_components(walled, SEED)
    wide = [torch.zeros_like(f) for f in random_components(momentum.operators, SEED)]
    for target, f in zip(wide, start, strict=True):
        target[..., inside, :] = f
    flows = [
        plain_simulation(walled, start, NU, 2e-3, PressureGradient(walled, 1.0), Wale(grid=walled.grid, nu=NU)),
        simulation(momentum, projection, wide, 2e-3, PressureGradient(momentum.operators, 1.0), Wale(grid=grid, nu=NU)),
    ]
    for _ in range(5):
        for flow in flows:
            flow.step()
    narrow, other = (flow.velocity for flow in flows)
    assert distance([f[..., inside, :] for f in other.coefficients], narrow.coefficients) < 1e-10
    assert float(narrow.coefficients[1].abs().max()) > 0.1
    gradients = [[d for row in v.gradient for d in row] for v in (other, narrow)]
    assert distance([d[:, inside] for d in gradients[0]], gradients[1]) < 1e-9


def steady_profile(n: int) -> tuple[np.ndarray, np.ndarray]:
    """u(y) between slabs at unit pressure gradient and viscosity: ``lap u = -1``, row by row from the operator."""
    grid = Grid(cells(2), FiniteVolumeAxis(np.linspace(0.0, 2.0, 2 * n + 1), SLIP, SLIP), PLANE)
    momentum, _ = around(grid, [Box((-1.0, -1.0, -1.0), (2.0, 0.5, 1.0)), Box((-1.0, 1.5, -1.0), (2.0, 3.0, 1.0))], 1.0)
    op, rows = momentum.operators, range(n // 2, n // 2 + n)
    matrix = np.zeros((n, n))
    for column, j in enumerate(rows):
        u = [torch.zeros(1, 2 * n, 2, 1, dtype=op.dtype).transpose(1, 2) for _ in range(3)]
        u[0][:, :, j] = 1.0
        rate = momentum.tendency(Velocity(momentum.strain, (u[0], u[1], u[2])), None)
        matrix[:, column] = rate[0][0, 0, rows.start : rows.stop, 0].numpy()
    return grid.y.centres[rows.start : rows.stop] - 1.0, np.linalg.solve(matrix, -np.ones(n))


def test_poiseuille_flow_between_slabs_is_of_second_order():
    errors = []
    for n in (8, 16, 32):
        y, u = steady_profile(n)
        errors.append(np.abs(u - 0.5 * (0.25 - y**2)).max())
    assert errors[0] < 0.05 * 0.125
    assert orders(errors) == pytest.approx([2.0, 2.0], abs=0.02)


def test_a_corner_takes_half_of_its_edge():
    """Next to a solid that covers half of a control volume, the wall shear acts on half of it."""
    grid = Grid(cells(4), cells(4), PLANE)
    op = operators(grid)
    solid = np.zeros(grid.shape, dtype=bool)
    solid[2, 2] = True
    slope = SolidWalls(op, Solids(grid, solid)).factors.slope[0, 1]  # of u along y, padded in x; faces 0 .. 4 in y
    assert slope[3, 2, 0] == 1.5  # the u-face between cells 2 and 3 (from 1), under the solid's lower left corner
    assert slope[2, 2, 0] == 1.5
    whole = np.zeros(grid.shape, dtype=bool)
    whole[1:3, 2] = True
    assert SolidWalls(op, Solids(grid, whole)).factors.slope[0, 1][2, 2, 0] == 2.0


def test_periodic_images_of_a_solid_block_the_seam():
    grid, shapes = CLOSED["seam"]
    solids = Solids.from_shapes(grid, shapes)
    free = SolidWalls(operators(grid), solids).free[0][0]
    blocked = solids.solid | np.roll(solids.solid, -1, 0)
    assert blocked[-1].any()
    assert np.array_equal(free.numpy() == 0, blocked)


def stepped(compiled: bool = False):
    """A flow around a ball after a step, with an eddy viscosity."""
    momentum, projection = around(*CLOSED["seam"], nu=NU)
    flow = simulation(momentum, projection, random_flow(projection), 2e-3, closure=Wale(grid=CLOSED["seam"][0], nu=NU))
    fusion.enable(compiled)
    try:
        flow.step()
    finally:
        fusion.enable(False)
    return flow


def test_a_step_in_slabs_is_the_same(monkeypatch):
    """Of two sizes: factors and masks are those of each slab."""
    whole = stepped()
    shape = whole.operators.local_shape
    monkeypatch.setattr("solver.discretisation.calculus.CACHE_BYTES", 5 * 9 * 8 * shape[0] * shape[2])
    assert len({size for _, size in whole.operators.slabs(9)}) == 2
    assert distance(whole.velocity.coefficients, stepped().velocity.coefficients) < 1e-12


@pytest.mark.skipif(not fusion.compiler_available(), reason="no C++ compiler")
def test_a_compiled_step_is_the_same():
    assert distance(stepped().velocity.coefficients, stepped(compiled=True).velocity.coefficients) < 1e-11
