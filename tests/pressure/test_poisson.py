"""The operator against an assembly cell by cell; its null space; what it refuses."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import eigsh

from solver.errors import CaseError
from solver.grid.axis import FourierAxis
from solver.grid.grid import Grid
from solver.pressure.poisson import Poisson
from tests.grids import operators, walls
from tests.pressure.problems import PROBLEMS, Problem, assembled, cells, face_by_face, noise


@pytest.mark.parametrize("name", PROBLEMS)
def test_operator_is_the_sum_over_faces(name):
    problem = PROBLEMS[name]
    poisson, (matrix, volume) = problem.poisson(), face_by_face(problem)
    phi = noise(poisson)
    expected = matrix @ np.where(volume > 0, phi.numpy().ravel(), 0.0)
    found = poisson.apply(phi).numpy().ravel() * volume
    np.testing.assert_allclose(found, expected, atol=1e-13 * abs(expected).max())


@pytest.mark.parametrize("name", PROBLEMS)
def test_assembled_matrix_is_the_operator(name):
    problem = PROBLEMS[name]
    poisson = problem.poisson()
    a = assembled(poisson)
    assert abs(a - a.T).max() == 0.0
    matrix, _ = face_by_face(problem)
    order = np.arange(np.prod(problem.grid.shape)).reshape(problem.grid.shape).transpose(1, 0, 2)
    layout = poisson.layout
    rows = torch.searchsorted(layout.cells(torch.arange(layout.size)).reshape(-1), poisson.unknowns)
    index = order.ravel()[rows.numpy()]
    expected = -matrix[index][:, index]
    assert abs(a - expected).max() < 1e-13 * abs(expected).max()


@pytest.mark.parametrize(("name", "dimension"), [("ball", 1), ("parts", 2), ("seam", 1)])
def test_one_null_vector_for_each_part(name, dimension):
    poisson = PROBLEMS[name].poisson()
    matrix = assembled(poisson)
    size = float(abs(matrix).max())
    values = eigsh(matrix, k=4, sigma=-1e-4 * size, return_eigenvectors=False)
    assert np.count_nonzero(abs(values) < 1e-12 * size) == dimension == poisson.null_count
    assert values.min() > -1e-12 * size
    phi = torch.from_numpy(poisson.solids.parts.astype(float))[None]
    assert float(poisson.apply(phi).abs().max()) < 1e-10  # constant in every part


@pytest.mark.parametrize("name", ["ball", "parts", "uneven"])
def test_sources_are_made_compatible_and_solutions_centred(name):
    poisson = PROBLEMS[name].poisson()
    cells_of = poisson.layout.cells
    part = torch.from_numpy(poisson.solids.parts).transpose(0, 1)
    volume, b = cells_of(poisson.volume), cells_of(poisson.source(noise(poisson)))
    x = cells_of(poisson.centred(poisson.layout.pack(noise(poisson), torch.float64)))
    for number in range(1, poisson.null_count + 1):
        assert abs(float(b[part == number].sum())) < 1e-14
        assert abs(float((x * volume)[part == number].sum())) < 1e-14
    assert torch.all(b[volume == 0] == 0)
    assert torch.all(x[volume == 0] == 0)


def test_second_order_on_a_smooth_function():
    errors = []
    for n in (16, 32):
        poisson = Problem(Grid(walls(n, 1.0), cells(n), cells(n))).poisson()
        x, y, z = poisson.operators.coordinates()
        phi = (torch.cos(np.pi * x) * torch.cos(2 * np.pi * y) * torch.cos(np.pi * z))[None]
        weight = torch.from_numpy(poisson.grid.cell_volume)
        error = poisson.apply(phi) + 6 * np.pi**2 * phi
        errors.append(float((error * weight).sum().abs() + ((error * phi) * weight).sum().abs()))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.1)


def test_refusals_by_name():
    with pytest.raises(CaseError, match="x is a Fourier axis"):
        Poisson(operators(Grid(FourierAxis(8, 1.0), walls(8), walls(8))))


def test_rows_are_numbered_exactly_below_a_rank_of_many_unknowns():
    """2^24 + 1 is not a number of single precision."""
    poisson = PROBLEMS["ball"].poisson()
    _, alone, values = poisson.rows()
    before = 2**24 + 1
    poisson.slabs = SimpleNamespace(size=2, rank=1, sum=lambda counts: counts + torch.tensor([before, 0]))
    _, columns, others = poisson.rows()
    np.testing.assert_array_equal(columns - before, alone)
    np.testing.assert_array_equal(others, values)
