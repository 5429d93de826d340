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
from solver.pressure.poisson import Outlet, Poisson
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
    varied: bool = False  # coefficients between 1/3 and 3, drawn at random
    outlets: Sequence[Outlet] = ()

    @property
    def beta(self) -> list[np.ndarray] | None:
        """Coefficients at faces, equal at both ends of a period."""
        if not self.varied:
            return None
        random, faces = np.random.default_rng(SEED), []
        for axis in range(3):
            shape = np.array(self.grid.shape) + (np.arange(3) == axis)
            values = np.exp(random.uniform(-1.1, 1.1, shape))
            if self.grid.axes[axis].periodic:
                values[(slice(None),) * axis + (-1,)] = values[(slice(None),) * axis + (0,)]
            faces.append(values)
        return faces

    def poisson(self, dtype: torch.dtype = torch.float64) -> Poisson:
        """The operator under test."""
        op = operators(self.grid, dtype)
        return Poisson(op, Solids.from_shapes(self.grid, self.shapes), self.beta, self.outlets)


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
    "varied": Problem(Grid(walls(11, 1.0), cells(12), cells(9, 1.0, PERIODIC)), [BALL], varied=True),
    "outlet": Problem(Grid(cells(17), walls(12, 1.0), cells(10)), [BALL], outlets=[(0, "upper")]),
    "outlet_y": Problem(Grid(cells(9), cells(14), cells(10)), [BALL], True, [(1, "lower"), (1, "upper"), (2, "lower")]),
    "one_part_held": Problem(Grid(cells(15), cells(12), cells(12)), [BARRIER], outlets=[(0, "upper")]),
    "plane": Problem(Grid(cells(31), cells(24), FourierAxis(1, 1.0)), [Cylinder((0.4, 0.5, 0.5), 0.2)]),
    "slender": Problem(Grid(cells(5), cells(40, 8.0), cells(4))),
}


def noise(poisson: Poisson, seed: int = SEED) -> Tensor:
    """A source drawn over the global grid, on this rank; neither zero in solids nor of zero mean."""
    op = poisson.operators
    return op.scatter(np.random.default_rng(seed).standard_normal((1, *op.grid.shape)))


def face_by_face(problem: Problem) -> tuple[sp.csr_array, np.ndarray]:
    """``V div(beta grad)`` on x-y-z ordered cells of the whole box, and the volumes; solid rows are empty."""
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
            face = list(index)
            face[axis] += 1
            beta = problem.beta[axis][tuple(face)] if problem.varied else 1.0
            inside = there[axis] > index[axis] or (line.periodic and shape[axis] > 1)
            if inside and fluid[index] and fluid[tuple(there)]:
                gap = 0.5 * (width[axis][index[axis]] + width[axis][there[axis]])
                a, b = number[index], number[tuple(there)]
                for i, j in ((a, b), (b, a)):
                    matrix[i, j] += beta * area / gap
                    matrix[i, i] -= beta * area / gap
            for end, at in (("lower", 0), ("upper", shape[axis] - 1)):
                if (axis, end) in problem.outlets and index[axis] == at and fluid[index]:
                    edge = list(index)
                    edge[axis] += end == "upper"
                    beta = problem.beta[axis][tuple(edge)] if problem.varied else 1.0
                    matrix[number[index], number[index]] -= beta * area / (0.5 * width[axis][at])
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
