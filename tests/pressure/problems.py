"""Small pressure problems of every kind, and an assembly of their matrix that shares no code with the solvers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu
from torch import Tensor

from solver.grid.axis import FiniteVolumeAxis, FourierAxis, FreeSlip, NoSlip, Periodic
from solver.grid.grid import Grid
from solver.pressure.poisson import Poisson
from solver.solids.mask import Solids
from solver.solids.shapes import Box, Cylinder, Shape, Sphere
from tests.grids import operators, uneven, walls

SEED = 662_607
WALL, SLIP, PERIODIC = NoSlip(), FreeSlip(), Periodic()


def cells(n: int, length: float = 1.0, end=WALL) -> FiniteVolumeAxis:
    """Equal cells."""
    return FiniteVolumeAxis(np.linspace(0.0, length, n + 1), end, end)


def cube(n: int) -> Grid:
    """Unit box with walls."""
    return Grid(cells(n), cells(n), cells(n))


@dataclass(frozen=True, eq=False)
class Problem:
    """What `Poisson` needs."""

    grid: Grid
    shapes: Sequence[Shape] = ()

    def poisson(self, dtype: torch.dtype = torch.float64) -> Poisson:
        """The operator under test."""
        op = operators(self.grid, dtype)
        return Poisson(op, Solids.from_shapes(self.grid, self.shapes))


BALL = Sphere((0.45, 0.5, 0.52), 0.21)
RODS = [Box((a, 0.0, c), (a + 0.12, 0.4, c + 0.12)) for a in (0.1, 0.6) for c in (0.15, 0.65)]
BARRIER = Box((0.48, -1.0, -1.0), (0.6, 2.0, 2.0))

PROBLEMS: dict[str, Problem] = {
    "cube": Problem(cube(12)),
    "ball": Problem(cube(16), [BALL]),
    "prime": Problem(Grid(cells(13), cells(17), cells(11)), [BALL]),
    "stretched": Problem(Grid(walls(12, 1.0), walls(15, 1.0), walls(10, 1.0, SLIP, SLIP)), [BALL]),
    "rods": Problem(Grid(cells(16, 1.0, PERIODIC), cells(13), cells(14, 1.0, PERIODIC)), RODS),
    "uneven": Problem(Grid(uneven(13, 1.0), uneven(12, 1.0), uneven(9, 1.0)), [BALL]),
    "seam": Problem(
        Grid(cells(15, 1.0, PERIODIC), cells(12, 1.0, PERIODIC), cells(10)), [Sphere((0.02, 0.97, 0.4), 0.25)]
    ),
    "parts": Problem(Grid(cells(16), cells(12), cells(12)), [BARRIER, Sphere((0.2, 0.4, 0.5), 0.15)]),
    "one_periodic": Problem(Grid(walls(11, 1.0), cells(12), cells(9, 1.0, PERIODIC)), [BALL]),
    "plane": Problem(Grid(cells(31), cells(24), FourierAxis(1, 1.0)), [Cylinder((0.4, 0.5, 0.5), 0.2)]),
    "slender": Problem(Grid(cells(5), cells(40, 8.0), cells(4))),
}


def assembled(poisson: Poisson) -> sp.csr_array:
    """The whole matrix A from its rows; on one rank."""
    pointers, columns, values = poisson.rows()
    n = len(poisson.unknowns)
    matrix = sp.csr_array((values, columns, pointers), shape=(n, n))
    matrix.sum_duplicates()  # two cells of a period are neighbours twice
    return matrix


def noise(poisson: Poisson, seed: int = SEED) -> Tensor:
    """A source drawn over the global grid, on this rank; neither zero in solids nor of zero mean."""
    op = poisson.operators
    return op.scatter(np.random.default_rng(seed).standard_normal((1, *op.grid.shape)))


def face_by_face(problem: Problem) -> tuple[sp.csr_array, np.ndarray]:
    """``V div grad`` on x-y-z ordered cells of the whole box, and the volumes; solid rows are empty."""
    grid, shape = problem.grid, problem.grid.shape
    fluid = Solids.from_shapes(grid, problem.shapes).fluid
    number, width = np.arange(fluid.size).reshape(shape), [np.asarray(axis.width) for axis in grid.axes]
    volume = width[0][:, None, None] * width[1][:, None] * width[2]
    matrix = sp.lil_array((fluid.size, fluid.size))
    for index in np.ndindex(shape):
        for axis in range(3):
            line, there = grid.axes[axis], list(index)
            there[axis] = (index[axis] + 1) % shape[axis]
            area = volume[index] / width[axis][index[axis]]
            inside = there[axis] > index[axis] or (line.periodic and shape[axis] > 1)
            if inside and fluid[index] and fluid[tuple(there)]:
                gap = 0.5 * (width[axis][index[axis]] + width[axis][there[axis]])
                a, b = number[index], number[tuple(there)]
                for i, j in ((a, b), (b, a)):
                    matrix[i, j] += area / gap
                    matrix[i, i] -= area / gap
    return matrix.tocsr(), np.where(fluid, volume, 0.0).ravel()


def exact_solution(problem: Problem, rhs: np.ndarray) -> np.ndarray:
    """Sparse LU with one bordering row for each part that floats: zero mean, compatible source; zero in solids."""
    matrix, volume = face_by_face(problem)
    used = volume > 0
    a, v, b = matrix[used][:, used], volume[used], (volume * rhs.ravel())[used]
    count, part = connected_components(a, directed=False)
    weight = sp.csr_array((v, (part, np.arange(len(v)))), shape=(count, len(v)))
    floats = abs(weight @ (a.sum(axis=1) / v)) < 1e-9 * abs(a).max()
    weight = weight[floats]
    bordered = sp.block_array([[a, weight.T], [weight, None]]).tocsc()
    solution = np.zeros(rhs.size)
    solution[used] = splu(bordered).solve(np.concatenate([b, np.zeros(weight.shape[0])]))[: len(v)]
    return solution.reshape(rhs.shape)
