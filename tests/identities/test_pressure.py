"""The direct pressure solve against assemblies that share no code with it."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import spsolve

from solver.pressure.direct import DirectPressure
from tests.grids import GRIDS, distance, operators, random_components, random_scalar, scalar_product

SEED = 265_358
CELL_GRIDS = ["cavity", "cavity_slip", "periodic_cells"]


@pytest.mark.parametrize("name", GRIDS)
def test_pressure_has_zero_mean_and_ignores_that_of_the_source(name):
    op = operators(name)
    rhs = random_scalar(op, SEED)
    shifted = op.to_coefficients(op.to_physical(rhs) + 3.0)
    phi, one = DirectPressure(op).solve(rhs), op.to_coefficients(torch.ones(op.local_shape, dtype=op.dtype))
    assert scalar_product(op, phi, one) == pytest.approx(0.0, abs=1e-13 * float(phi.abs().max()))
    assert distance([DirectPressure(op).solve(shifted)], [phi]) < 1e-13  # the source is of order one


def second_difference(line) -> sp.csr_matrix:
    """``d/dy d/dy`` at centres, assembled face by face; zero slope at walls."""
    n, faces = line.n, line.faces
    centre = 0.5 * (faces[1:] + faces[:-1])
    matrix = sp.lil_matrix((n, n))
    pairs = [(j, j + 1, centre[j + 1] - centre[j]) for j in range(n - 1)]
    if line.periodic:
        pairs.append((n - 1, 0, centre[0] - centre[-1] + faces[-1] - faces[0]))
    for a, b, gap in pairs:
        for here, there in ((a, b), (b, a)):
            height = faces[here + 1] - faces[here]
            matrix[here, there] += 1 / (gap * height)
            matrix[here, here] -= 1 / (gap * height)
    return matrix.tocsr()


def assembled_laplacian(op) -> sp.csr_matrix:
    """``div grad`` on x-y-z ordered values of a grid of cells."""
    parts = [second_difference(line) for line in op.grid.axes]
    x, y, z = (sp.identity(part.shape[0]) for part in parts)
    return (
        sp.kron(sp.kron(parts[0], y), z) + sp.kron(sp.kron(x, parts[1]), z) + sp.kron(sp.kron(x, y), parts[2])
    ).tocsr()


def compatible_source(op, seed: int) -> torch.Tensor:
    """Noise with zero mean: a divergence, so that the singular problem has solutions."""
    return op.divergence(random_components(op, seed))


@pytest.mark.parametrize("name", CELL_GRIDS)
def test_pressure_against_sparse_assembly(name):
    op = operators(name)
    rhs = compatible_source(op, SEED)
    phi = DirectPressure(op).solve(rhs)
    matrix = assembled_laplacian(op)
    residual = matrix @ phi.numpy().ravel() - rhs.numpy().ravel()
    assert abs(residual).max() < 1e-12 * float(rhs.abs().max())
    volume = op.grid.cell_volume.ravel()
    pinned = sp.bmat([[matrix, volume[:, None]], [volume[None, :], None]]).tocsc()
    oracle = spsolve(pinned, np.append(rhs.numpy().ravel(), 0.0))[:-1]
    np.testing.assert_allclose(phi.numpy().ravel(), oracle, atol=1e-12 * abs(oracle).max())


@pytest.mark.parametrize("name", CELL_GRIDS)
def test_pressure_against_petsc(name):
    PETSc = pytest.importorskip("petsc4py.PETSc")
    op = operators(name)
    rhs = compatible_source(op, SEED)
    volume = op.grid.cell_volume.ravel()
    matrix = (sp.diags(volume) @ assembled_laplacian(op)).tocsr()
    n = len(volume)
    a = PETSc.Mat().createAIJ((n, n), csr=(matrix.indptr, matrix.indices, matrix.data), comm=PETSc.COMM_SELF)
    a.setNullSpace(PETSc.NullSpace().create(constant=True, comm=PETSc.COMM_SELF))
    x, b = a.createVecs()
    b.setArray(volume * rhs.numpy().ravel())
    solver = PETSc.KSP().create(PETSc.COMM_SELF)
    solver.setOperators(a)
    solver.setType("gmres")
    solver.getPC().setType("jacobi")
    solver.setTolerances(rtol=1e-13, max_it=5000)
    solver.solve(b, x)
    assert solver.reason > 0
    oracle = x.getArray() - np.dot(x.getArray(), volume) / volume.sum()
    phi = DirectPressure(op).solve(rhs).numpy().ravel()
    np.testing.assert_allclose(phi, oracle, atol=1e-9 * abs(oracle).max())


@pytest.mark.parametrize("name", ["channel", "half_channel", "periodic"])
def test_pressure_mode_by_mode(name):
    """``phi'' - (kx^2 + kz^2) phi = rhs`` for every pair of wavenumbers, by a dense solve."""
    op = operators(name)
    rhs = compatible_source(op, SEED)
    phi = DirectPressure(op).solve(rhs).numpy()
    matrix = second_difference(op.grid.y).toarray()
    for i, kx in enumerate(op.grid.x.wavenumbers(half=False)):
        for k, kz in enumerate(op.grid.z.wavenumbers(half=True)):
            shifted = matrix - (kx**2 + kz**2) * np.eye(len(matrix))
            np.testing.assert_allclose(phi[:, i, :, k] @ shifted.T, rhs.numpy()[:, i, :, k], atol=1e-12)
