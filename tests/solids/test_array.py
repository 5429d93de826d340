"""The shipped array of cubes on fewer cells, and the dynamic model on grids of cells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from closures.algebraic.box import SIMPSON, BoxFilter
from closures.registry.registry import create
from solver.case.case import load_case
from solver.errors import CaseError
from solver.grid.grid import Grid
from solver.observers.series import subgrid_dissipation
from solver.run.build import Source, build
from tests.grids import distance, operators, orders
from tests.solids.flows import CLOSED, cells
from tests.solids.test_solvers import PETSC

CUBES = Path(__file__).parents[2] / "cases" / "cube_array"
SMALLER = ("grid.x.n=16", "grid.y.n=8", "grid.z.n=16", "pressure.tolerance=1e-12", "time.dt=0.05", "run.device=cpu")


def flow(*overrides: str):
    """The case with some keys changed, as a simulation."""
    case, folder = load_case(CUBES, (*SMALLER, *overrides))
    return build(Source(case, folder, "cubes"))


@pytest.fixture(scope="module")
def by_multigrid():
    """Six steps."""
    with torch.no_grad():
        run = flow("pressure.solver=multigrid")
        for _ in range(6):
            run.step()
    return run


@pytest.mark.parametrize("solver", ["box", pytest.param("krylov", marks=PETSC)])
def test_same_flow_by_any_solver(by_multigrid, solver):
    run = flow(f"pressure.solver={solver}")
    start = [f.clone() for f in run.velocity.coefficients]
    for _ in range(6):
        run.step()
    assert distance(run.velocity.coefficients, by_multigrid.velocity.coefficients) < 1e-9
    assert distance(run.velocity.coefficients, start) > 0.1


def test_a_quarter_of_the_ground_is_built_on(by_multigrid):
    solid = by_multigrid.flow.projection.walls.solids.solid
    plan = solid.any(axis=1)
    assert plan.mean() == 0.25
    assert solid.sum() == plan.sum() * 2  # two cells high on this grid
    assert np.array_equal(np.roll(plan, (4, 2), (0, 1)), plan)  # staggered: by h across at each row
    assert not np.array_equal(np.roll(plan, 4, 0), plan)


def test_the_dynamic_model_drains_between_cubes(by_multigrid):
    nu_t = by_multigrid.present_term().nu_t
    assert float(nu_t.min()) == 0.0
    assert float(nu_t.max()) > by_multigrid.nu
    assert subgrid_dissipation(by_multigrid) > 0
    assert by_multigrid.closure.reach == 0  # filters within planes


def test_courtyards_of_one_cell_stay_calm():
    """16 cells deep and open at the top: one by one cell, where continuity leaves no flow, and one by two."""
    ground = [(1, 3, 0, 5), (4, 6, 0, 5), (3, 4, 0, 1), (3, 4, 3, 4)]  # x and z of two houses and what joins them
    boxes = ", ".join(f"{{kind='box', lower=[{a},0,{c}], upper=[{b},2,{d}]}}" for a, b, c, d in ground)
    ends = ("grid.x.n=7", "grid.x.end=7.0", "grid.y.n=24", "grid.y.end=3.0", "grid.z.n=5", "grid.z.end=5.0")
    run = flow(f"solids.shapes=[{boxes}]", "pressure.tolerance=1e-7", "initial.amplitude=0.5", *ends)
    solid = run.flow.projection.walls.solids.solid
    assert not solid[3, :16, [1, 2, 4]].any()
    assert solid[3, :16, [0, 3]].all()
    assert solid[[2, 4], :16].all()
    for _ in range(50):
        run.step()
        speed = torch.stack([f.reshape(solid.shape) for f in run.velocity.centred]).norm(dim=0)
        assert float(speed.max()) > 1.0
        assert float(speed[3, :16, 4].max()) < 1e-6
        assert float(speed[3, :16, 1:3].max()) < 0.1


def test_filter_along_cells_is_a_box_of_two_widths():
    """To third order, as Simpson's rule is."""
    wave_number, errors = 3.0, []
    for n in (32, 64, 128):
        h = 2 * np.pi / n
        op = operators(Grid(cells(n, 2 * np.pi), cells(2), cells(2)))
        wave = op.tensor(np.cos(wave_number * h * np.arange(n))).reshape(-1, 1, 1).expand(n, 2, 2).contiguous()
        (filtered,) = BoxFilter({0: SIMPSON})([wave], op)
        ratio = float(filtered[0, 0, 0] / wave[0, 0, 0])
        errors.append(abs(ratio - np.sin(wave_number * h) / (wave_number * h)))
    assert orders(errors) == pytest.approx([4.0, 4.0], abs=0.05)


def test_the_dynamic_model_says_what_it_needs():
    periodic, walled = Grid(cells(8), cells(8), cells(8)), CLOSED["cavity"][0]
    create("dynamic_smagorinsky", grid=periodic, nu=0.1, options={"averaging": "local"})
    with pytest.raises(CaseError, match="averaging = 'local', or 'wale'"):
        create("dynamic_smagorinsky", grid=periodic, nu=0.1, options={})
    with pytest.raises(CaseError, match="none: use 'wale'"):
        create("dynamic_smagorinsky", grid=walled, nu=0.1, options={"averaging": "local"})
