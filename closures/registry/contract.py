"""The contract of a closure, clause by clause, for one's own as for ours.

``solver check CASE --closure NAME`` asks every clause on the grid of a case, under mpirun also whether the answers are
those of one rank; `examine` is the same from Python. The tests of the shipped closures are made of these parts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from closures.algebraic.cutoff import coarse_points
from solver.discretisation.calculus import Operators
from solver.discretisation.gradient import VelocityGradient
from solver.discretisation.velocity import Velocity
from solver.errors import SolverError
from solver.flow.closure import EddyViscosity, SubgridStress, SubgridTerm
from solver.grid.axis import Axis, Boundary, FiniteVolumeAxis, NoSlip
from solver.grid.grid import Grid
from solver.parallel import ranks as parallel
from solver.parallel.slabs import Slabs
from solver.pressure.direct import DirectPressure

Array = np.ndarray
TOLERANCE = 1e-4  # of the greatest value: networks answer in single precision
ALONE = parallel.alone()
STRESS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))


class ContractBroken(SolverError):
    """A closure does not do what its interface asks for, or what it declares; the line says by how much."""


@dataclass(frozen=True)
class Subject:
    """A closure by what makes it, on one grid.

    Parameters
    ----------
    create : makes the closure (`solver.flow.closure.Closure`) for a grid; walls of it may move.
    grid : closed or periodic, without solids.
    tolerance : of what should be equal, relative to the greatest value.
    """

    create: Callable[[Grid], Any]
    grid: Grid
    tolerance: float = TOLERANCE

    def answer(self, fields: list[Array], grid: Grid | None = None, comm: Any = ALONE) -> Array:
        """Its first answer to a velocity, (fields, nx, local ny, nz)."""
        grid = grid or self.grid
        velocity, closure = make_velocity(make_operators(grid, comm), fields), self.create(grid)
        return values(closure(velocity, 0.0, closure.init(velocity.operators))[0], velocity)

    def same(self, expected: Array, found: Array, what: str) -> None:
        """Raise ContractBroken where two answers differ."""
        if expected.shape != found.shape:
            raise ContractBroken(f"{what}: the answer is of another kind")
        difference = float(np.abs(expected - found).max()) / max(float(np.abs(expected).max()), 1e-300)
        if not difference <= self.tolerance:
            raise ContractBroken(f"{what}: the answer differs by {difference:.1e} of its greatest value")


# -- flows on a grid ---------------------------------------------------------------------------------------------------


def make_operators(grid: Grid, comm: Any = ALONE) -> Operators:
    """The calculus in double precision on CPU; on this rank alone, or with `comm`, None for all."""
    decomposition = Slabs(grid.shape[1], grid.coefficient_shape[0], grid.y.periodic, comm)
    return Operators(grid, decomposition, torch.device("cpu"), torch.float64)


def random_fields(grid: Grid, seed: int = 7) -> list[Array]:
    """Three global arrays of noise, zero at the upper walls of their own axis."""
    fields = list(np.random.default_rng(seed).standard_normal((3, *grid.shape)))
    for d, axis in enumerate(grid.axes):
        if not axis.is_fourier:
            np.moveaxis(fields[d], d, 0)[-1] = 0.0
    return fields


def make_velocity(operators: Operators, fields: list[Array], project: bool = True) -> Velocity:
    """The divergence-free velocity nearest to global arrays of values where the components live."""
    slab = [torch.from_numpy(np.ascontiguousarray(f[:, operators.decomposition.planes].swapaxes(0, 1))) for f in fields]
    u, v, w = (operators.to_coefficients(f.transpose(0, 1)) for f in slab)
    if project:
        divergence = operators.divergence((u, v, w))
        u, v, w = operators.subtract_gradient((u, v, w), DirectPressure(operators).solve(divergence))
    return Velocity(VelocityGradient(operators), (u, v, w))


def values(term: SubgridTerm | None, velocity: Velocity) -> Array:
    """A term as one array: an eddy viscosity, six stresses or three forces; one field of zeros for none."""
    if term is None:
        return np.zeros((1, *velocity.operators.local_shape))
    if isinstance(term, EddyViscosity):
        return term.nu_t[None].detach().numpy()
    fields = term.tau if isinstance(term, SubgridStress) else term.force
    return torch.stack(list(fields)).detach().numpy()


def reflect_scalar(f: Array, axis: int, line: Axis) -> Array:
    """A centred field seen in a mirror."""
    mirrored = np.flip(f, axis)
    return np.roll(mirrored, 1, axis) if line.is_fourier else mirrored


def reflect(fields: list[Array], axis: int, line: Axis) -> list[Array]:
    """A staggered velocity seen in a mirror normal to `axis`."""
    mirrored = [reflect_scalar(f, axis, line) for f in fields]
    if not line.is_fourier:  # faces 1 .. n: n is the wall and stays, the others swap ends
        mirrored[axis] = np.roll(mirrored[axis], -1, axis)
    mirrored[axis] = -mirrored[axis]
    return mirrored


def reflect_answer(answer: Array, axis: int, line: Axis) -> Array:
    """An answer seen in the mirror: what has the normal once changes its sign."""
    seen = np.stack([reflect_scalar(f, axis, line) for f in answer])
    odd = {1: [False], 3: [d == axis for d in range(3)], 6: [(i == axis) != (j == axis) for i, j in STRESS]}
    return seen * np.where(odd[len(answer)], -1.0, 1.0)[:, None, None, None]


def moved(fields: list[Array], velocity: tuple[float, float, float]) -> list[Array]:
    """The fields as an observer sees them who moves against `velocity`."""
    return [f + u for f, u in zip(fields, velocity, strict=True)]


def with_walls_at(grid: Grid, velocity: tuple[float, float, float]) -> Grid:
    """The grid with its walls as that observer sees them."""
    return Grid(*(_moving(axis, velocity) for axis in grid.axes))


def _moving(axis: Axis, velocity: tuple[float, float, float]) -> Axis:
    def end(boundary: Boundary) -> Boundary:
        if not isinstance(boundary, NoSlip):
            return boundary
        u, v, w = (a + b for a, b in zip(boundary.velocity, velocity, strict=True))
        return NoSlip((u, v, w))

    if not isinstance(axis, FiniteVolumeAxis):
        return axis
    return replace(axis, lower=end(axis.lower), upper=end(axis.upper))


# -- clauses -----------------------------------------------------------------------------------------------------------


def repeats(subject: Subject) -> None:
    """Equal arguments give equal answers, and stay what they are.

    Raises
    ------
    ContractBroken : it does not.
    """
    velocity = make_velocity(make_operators(subject.grid), random_fields(subject.grid))
    closure = subject.create(subject.grid)
    state = closure.init(velocity.operators)
    held = [c.clone() for c in (*velocity.coefficients, *velocity.staggered, *state.values())]
    first, second = (values(closure(velocity, 0.0, state)[0], velocity) for _ in range(2))
    if not np.array_equal(first, second):
        raise ContractBroken("repeats: two calls with equal arguments give different answers")
    now = (*velocity.coefficients, *velocity.staggered, *state.values())
    if not all(torch.allclose(a, b, rtol=0, atol=0, equal_nan=True) for a, b in zip(held, now, strict=True)):
        raise ContractBroken("repeats: a call changes its velocity or its state")


def restarts(subject: Subject) -> None:
    """A new closure with the state of the old one goes on as that would have."""
    operators, old = make_operators(subject.grid), subject.create(subject.grid)
    state = old.init(operators)
    for seed in (11, 12, 13):
        velocity, t = make_velocity(operators, random_fields(subject.grid, seed)), 0.01 * seed
        copy = {name: value.clone() for name, value in state.items()}
        new = values(subject.create(subject.grid)(velocity, t, copy)[0], velocity)
        term, state = old(velocity, t, state)
        subject.same(values(term, velocity), new, "restarts")


def rests(subject: Subject) -> None:
    """No subgrid term where nothing moves.

    Raises
    ------
    ContractBroken : it does not.
    """
    answer = subject.answer([np.zeros(subject.grid.shape)] * 3)
    if not np.abs(answer).max() < 1e-12:
        raise ContractBroken(f"rests: {np.abs(answer).max():.1e} in a fluid at rest, expected 0")


def galilean(subject: Subject) -> None:
    """An observer in uniform motion sees the same."""
    axes, fields = subject.grid.axes, random_fields(subject.grid)
    u, v, w = (u if axis.is_fourier else 0.0 for u, axis in zip((1.3, -0.7, 0.4), axes, strict=True))
    found = subject.answer(moved(fields, (u, v, w)), with_walls_at(subject.grid, (u, v, w)))
    subject.same(subject.answer(fields), found, "galilean")


def shift(subject: Subject) -> None:
    """A flow further on along Fourier directions has its answer further on."""
    steps = [0, 0, 0]
    for d, axis in subject.grid.fourier_axes.items():
        steps[d] = axis.points // coarse_points(axis)  # averages of the dynamic model live on coarse points
    fields = random_fields(subject.grid)
    expected = np.roll(subject.answer(fields), steps, (1, 2, 3))
    subject.same(expected, subject.answer([np.roll(f, steps, (0, 1, 2)) for f in fields]), "shift")


def reflection(subject: Subject) -> None:
    """A flow in a mirror has its answer in the mirror, along every direction that is symmetric."""
    fields = random_fields(subject.grid)
    answer = subject.answer(fields)
    for d, line in enumerate(subject.grid.axes):
        if isinstance(line, FiniteVolumeAxis) and not np.allclose(line.width, line.width[::-1]):
            continue
        found = subject.answer(reflect(fields, d, line))
        subject.same(reflect_answer(answer, d, line), found, f"reflection in {'xyz'[d]}")


def ranks(subject: Subject) -> None:
    """On this rank what one rank gives for the whole grid (collective)."""
    fields, grid = random_fields(subject.grid), subject.grid
    planes = make_operators(grid, None).decomposition.planes
    subject.same(subject.answer(fields)[:, :, planes], subject.answer(fields, comm=None), "ranks")


DECLARED = {"galilean": galilean, "shift": shift, "reflection": reflection}
ALWAYS = {"repeats": repeats, "restarts": restarts, "rests": rests}


@torch.no_grad()
def examine(subject: Subject) -> dict[str, str]:
    """Every clause that holds for this closure, and what came of it: "kept", or why not (collective)."""
    declared: frozenset[str] = getattr(subject.create(subject.grid), "symmetries", frozenset())
    clauses = ALWAYS | {name: clause for name, clause in DECLARED.items() if name in declared}
    if parallel.world_size() > 1:
        clauses |= {"ranks": ranks}
    found = {}
    for name, clause in clauses.items():
        try:
            clause(subject)
            found[name] = "kept"
        except ContractBroken as broken:
            found[name] = str(broken).partition(": ")[2]
    return found
