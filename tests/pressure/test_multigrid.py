"""The multigrid solver against sparse LU and the direct solver; its cycle; its iteration counts; its failures."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from solver.errors import SolverError
from solver.grid.axis import FiniteVolumeAxis, stretched_faces
from solver.grid.grid import Grid
from solver.pressure.coarsening import System, coarsen
from solver.pressure.direct import DirectPressure
from solver.pressure.multigrid import Multigrid, MultigridPressure
from solver.pressure.report import PressureSolveFailure
from solver.solids.shapes import Box, Sphere
from tests.grids import uneven, walls
from tests.pressure.problems import (
    PERIODIC,
    PROBLEMS,
    RODS,
    WALL,
    Problem,
    cells,
    cube,
    exact_solution,
    face_by_face,
    noise,
)

SPHERE = Sphere((0.5, 0.5, 0.5), 0.2)


def solve(poisson, rhs, tolerance=1e-8, **options):
    phi = torch.zeros_like(rhs)
    return phi, MultigridPressure(poisson, tolerance, **options).solve(rhs, phi)


def system_of(poisson) -> System:
    """The finest system, in double precision."""
    layout = poisson.layout
    return System(layout, poisson.grid.axes, (layout.shape[1],), poisson.coupling, poisson.diagonal)


@pytest.mark.parametrize("name", PROBLEMS)
def test_same_solution_as_sparse_lu(name):
    problem = PROBLEMS[name]
    poisson = problem.poisson()
    rhs = noise(poisson)
    phi, report = solve(poisson, rhs, 1e-12)
    exact = exact_solution(problem, rhs.numpy())
    assert report.converged
    assert abs(phi.numpy() - exact).max() < 1e-10 * abs(exact).max()


@pytest.mark.parametrize(
    "grid",
    [
        Grid(cells(24), cells(20), cells(18)),
        Grid(walls(19, 1.0), walls(23, 1.0), cells(16)),
        Grid(uneven(16, 1.0), walls(17, 1.0), cells(12, 1.0, PERIODIC)),
    ],
    ids=["cubes", "stretched", "periodic"],
)
def test_same_solution_as_the_direct_solver_without_solids(grid):
    poisson = Problem(grid).poisson()
    rhs = noise(poisson)
    exact = DirectPressure(poisson.operators).solve(rhs)
    phi, _ = solve(poisson, rhs, 1e-12)
    assert float((phi - exact).abs().max()) < 1e-10 * float(exact.abs().max())


@pytest.mark.parametrize("name", PROBLEMS)
def test_cycle_is_symmetric_and_positive(name):
    """Entry by entry of the matrix that random vectors see."""
    poisson = PROBLEMS[name].poisson()
    cycle, layout = Multigrid(poisson, torch.float64), poisson.layout
    vectors = [poisson.source(noise(poisson, seed)) for seed in range(3, 9)]
    images = [cycle(v).clone() for v in vectors]
    product = torch.tensor([[torch.dot(layout.core(a), layout.core(b)) for b in images] for a in vectors])
    assert float((product - product.T).abs().max()) < 1e-13 * float(product.abs().max())
    assert torch.linalg.eigvalsh(product).min() > 0


@pytest.mark.parametrize("name", ["ball", "one_periodic", "uneven", "slender"])
def test_restriction_is_the_transpose_of_interpolation(name):
    poisson = PROBLEMS[name].poisson()
    fine = system_of(poisson)
    coarse, transfer = coarsen(fine)
    residual = poisson.source(noise(poisson))
    correction, x, restricted = (layout.zeros(torch.float64) for layout in (coarse.layout, fine.layout, coarse.layout))
    cells = coarse.layout.cells(correction)
    cells.copy_(torch.from_numpy(np.random.default_rng(4).standard_normal(cells.shape)))
    correction *= coarse.diagonal > 0
    transfer.add_correction(coarse.layout.exchange(correction), x)
    transfer.restrict(residual, restricted)
    fine_side = torch.dot(fine.layout.cells(x).reshape(-1), fine.layout.cells(residual).reshape(-1))
    coarse_side = torch.dot(coarse.layout.cells(correction).reshape(-1), coarse.layout.cells(restricted).reshape(-1))
    assert float(fine_side) == pytest.approx(float(coarse_side), rel=1e-12)
    assert abs(float(fine_side)) > 1e-6


def test_linear_functions_pass_through_the_grids():
    """Interpolation is exact for them away from walls, on uneven cells too."""
    faces = np.cumsum(np.concatenate([[0.0], 1.0 + 0.3 * np.random.default_rng(8).random(24)]))
    axis = FiniteVolumeAxis(faces, WALL, WALL)
    poisson = Problem(Grid(axis, axis, axis)).poisson()
    fine = system_of(poisson)
    coarse, transfer = coarsen(fine)

    def linear(system):
        x, y, z = (system.line(line.centres, d) for d, line in enumerate(system.axes))
        flat = system.layout.zeros(torch.float64)
        system.layout.cells(flat).copy_(0.3 * x - 1.2 * y + 0.7 * z)
        return flat

    x = fine.layout.zeros(torch.float64)
    transfer.add_correction(linear(coarse), x)
    error = fine.layout.cells(x - linear(fine))[1:-1, 1:-1, 1:-1].abs().max()
    assert float(error) < 1e-12


SIZES = {"empty": (), "sphere": (SPHERE,), "rods": tuple(RODS)}


@pytest.mark.parametrize("shapes", SIZES.values(), ids=SIZES.keys())
def test_iterations_do_not_grow_with_size(shapes):
    counts = []
    for n in (16, 32, 48, 61):
        poisson = Problem(cube(n), shapes).poisson()
        x, y, z = poisson.operators.coordinates()
        smooth = (torch.cos(np.pi * x) * torch.cos(2 * np.pi * y) + z).expand(n, n, n)[None]
        counts.append([solve(poisson, rhs)[1].iterations for rhs in (noise(poisson), smooth)])
    assert np.max(counts) <= 12
    assert np.ptp(counts, axis=0).max() <= 3


def test_iterations_on_stretched_cells():
    line = FiniteVolumeAxis(stretched_faces(32, 0.0, 1.0, 1.7), WALL, WALL)  # aspect ratios up to 8
    poisson = Problem(Grid(line, line, line), [SPHERE]).poisson()
    assert solve(poisson, noise(poisson))[1].iterations <= 12


def test_reported_residual_is_the_true_one():
    problem = PROBLEMS["ball"]
    poisson = problem.poisson()
    rhs = noise(poisson)
    phi, report = solve(poisson, rhs, 1e-7)
    b = poisson.source(rhs)
    volume = poisson.layout.cells(poisson.volume)
    product = poisson.layout.cells(poisson.source(poisson.apply(phi)))
    difference = (poisson.layout.cells(b) - product)[volume > 0]
    assert float(difference.norm() / b.norm()) == pytest.approx(report.residual, rel=1e-5)
    assert report.residual <= 1e-7
    assert report.seconds > 0


def test_a_good_guess_saves_iterations():
    poisson = PROBLEMS["ball"].poisson()
    solver, rhs = MultigridPressure(poisson), noise(poisson)
    phi = torch.zeros_like(rhs)
    cold = solver.solve(rhs, phi).iterations
    warm = solver.solve(rhs * (1.0 + 1e-5), phi).iterations
    assert 0 < warm <= cold - 4
    assert solver.solve(torch.zeros_like(rhs), phi).iterations == 0
    assert float(phi.abs().max()) == 0.0


@pytest.mark.parametrize("name", ["ball", "cube"])
@pytest.mark.parametrize("size", [1e9, 1e13, 1e30])
def test_a_guess_whose_rounding_hides_the_source_is_not_used(name, size):
    """The pressure of a flow before it came to rest."""
    poisson = PROBLEMS[name].poisson()
    rhs = noise(poisson)
    phi, _ = solve(poisson, rhs)
    guess = poisson.layout.unpack(poisson.centred(poisson.in_fluid(noise(poisson) * size)), torch.zeros_like(rhs))
    other = MultigridPressure(poisson, 1e-8).solve(rhs, guess)
    assert other.residual <= 1e-8
    assert float((guess - phi).abs().max()) < 1e-6 * float(phi.abs().max())


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_size_of_the_source_does_not_matter(scale):
    poisson = PROBLEMS["ball"].poisson()
    rhs = noise(poisson)
    (phi, report), (scaled, other) = solve(poisson, rhs), solve(poisson, rhs * scale)
    assert other.iterations == report.iterations
    assert float((scaled / scale - phi).abs().max()) < 1e-6 * float(phi.abs().max())


@pytest.mark.parametrize("name", ["cube", "ball", "stretched"])
@pytest.mark.parametrize("tolerance", [1e-4, 1e-8])
def test_single_precision_fields_are_solved_for_to_any_tolerance(name, tolerance):
    poisson = PROBLEMS[name].poisson(torch.float32)
    rhs = noise(poisson)
    phi, report = solve(poisson, rhs, tolerance)
    assert phi.dtype == torch.float32
    assert report.residual <= tolerance
    exact = exact_solution(PROBLEMS[name], rhs.double().numpy())
    assert float(abs(phi.numpy() - exact).max()) < max(30 * tolerance, 3e-6) * abs(exact).max()


DENSE = {  # uniform grids small enough for one dense level
    "block": Problem(cube(6), [Box((0.3, 0.3, 0.3), (0.7, 0.7, 0.7))]),
    "barrier": Problem(Grid(cells(8), cells(6), cells(6)), [Box((0.4, 0.0, 0.0), (0.6, 0.6, 1.0))]),
    "flat cells": Problem(Grid(cells(8, 40.0), cells(6), cells(5, 0.05)), [Box((9.0, 0.2, 0.01), (21.0, 0.6, 0.04))]),
    "seam": Problem(Grid(cells(6, 1.0, PERIODIC), cells(5), cells(6, 1.0, PERIODIC)), [Box((0, 0, 0), (0.4, 0.4, 1))]),
}


@pytest.mark.parametrize("name", DENSE)
def test_one_dense_level_around_solids(name):
    poisson = DENSE[name].poisson()
    rhs = noise(poisson)
    phi, report = solve(poisson, rhs, 1e-10)
    assert report.iterations <= 4
    assert abs(phi.numpy() - (exact := exact_solution(DENSE[name], rhs.numpy()))).max() < 1e-8 * abs(exact).max()


def true_residual(problem, rhs, phi) -> float:
    """By the matrix assembled face by face."""
    matrix, volume = face_by_face(problem)
    parts = problem.poisson().solids.parts.ravel()
    b = volume * rhs.numpy().ravel()
    for part in range(1, parts.max() + 1):
        inside = parts == part
        b[inside] -= volume[inside] * b[inside].sum() / volume[inside].sum()
    return float(np.linalg.norm(b - matrix @ phi.numpy().ravel()) / np.linalg.norm(b))


@pytest.mark.parametrize("name", ["ball", "stretched", "seam", "parts"])
@pytest.mark.parametrize("tolerance", [1e-3, 1e-8, 1e-13])
def test_the_residual_reported_is_that_of_the_solution(name, tolerance):
    problem = PROBLEMS[name]
    poisson = problem.poisson()
    rhs = noise(poisson)
    phi, report = solve(poisson, rhs, tolerance)
    assert report.residual == pytest.approx(true_residual(problem, rhs, phi), rel=1e-6, abs=1e-15)


def test_a_residual_that_left_the_true_one_is_no_convergence():
    """A preconditioner that writes into solids: the iteration believes what the fluid does not feel."""
    poisson = PROBLEMS["ball"].poisson()
    solid = poisson.layout.pack(torch.from_numpy(poisson.solids.solid), poisson.dtype)

    def careless(residual):
        return residual + solid * (residual.roll(1) + residual.roll(-1))

    with pytest.raises(PressureSolveFailure) as caught:
        solve(poisson, noise(poisson), 1e-6, preconditioner=careless, max_iterations=400)
    assert caught.value.report.residual > 1e-5


def test_failures_have_names():
    poisson = PROBLEMS["ball"].poisson()
    rhs = noise(poisson)
    with pytest.raises(PressureSolveFailure, match="DIVERGED_MAX_IT after 2 iterations") as caught:
        solve(poisson, rhs, 1e-12, max_iterations=2)
    assert isinstance(caught.value, SolverError)
    assert caught.value.report.iterations == 2
    assert not caught.value.report.converged
    rhs[0, 1, 2, 3] = torch.nan
    with pytest.raises(PressureSolveFailure, match="DIVERGED_NANORINF"):
        solve(poisson, rhs)

    class Negative:
        def __call__(self, residual):
            return -residual

    with pytest.raises(PressureSolveFailure, match="DIVERGED_INDEFINITE_PC"):
        solve(poisson, noise(poisson), preconditioner=Negative())


def test_solid_cells_are_set_to_zero_and_do_not_matter():
    problem = dataclasses.replace(PROBLEMS["ball"], shapes=[Box((0.3, 0.3, 0.3), (0.7, 0.7, 0.7))])
    poisson = problem.poisson()
    rhs, solid = noise(poisson), torch.from_numpy(poisson.solids.solid)[None]
    phi, _ = solve(poisson, rhs, 1e-11)
    garbage, _ = solve(poisson, torch.where(solid, 1e6, rhs), 1e-11)
    assert float(phi[solid].abs().max()) == 0.0
    assert float((phi - garbage).abs().max()) < 1e-9 * float(phi.abs().max())
