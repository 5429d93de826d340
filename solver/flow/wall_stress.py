"""Wall models: the interface, and the stresses that one exerts on the walls of a grid.

Where a wall is too coarse to be resolved, a model gives the stress on it from the velocity along it at a height in the
logarithmic layer. It is the flux of momentum through the face of the wall; there is no other (`solver.flow.momentum`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from solver.discretisation.calculus import Operators
from solver.discretisation.staggered import DIM, edge, join, mean
from solver.discretisation.velocity import Velocity
from solver.flow.closure import State
from solver.flow.number import Number
from solver.grid.axis import FiniteVolumeAxis
from solver.grid.grid import Grid

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class WallSample:
    """What a wall model sees of the walls across one axis.

    Parameters
    ----------
    velocity : the components along the wall at the `height`, relative to it, (walls, nx, local ny or 1, nz or 1) each:
        u and w at walls across y, u and v at walls across z. The lower wall is first.
    height, nu : distance from the wall, and kinematic viscosity.
    depth : distance from the wall to the middle of the fluid, or to its free surface.
    beside : distance along the wall from the nearest other wall, to be broadcast to the velocity; infinite without one.
    """

    velocity: Pair
    height: float
    nu: float
    depth: float = math.inf
    beside: Tensor | float = math.inf


class WallModel(Protocol):
    """A value that sees its arguments only, as closures do; state is returned, and checkpointed.

    ``graph_cycle`` is that of `Closure`.
    """

    name: str

    def init(self, sample: WallSample) -> State:
        """The state before the first step, for samples of the shape of this one, which is at rest."""
        ...

    def __call__(self, sample: WallSample, t: float, state: State) -> tuple[Pair, State]:
        """The stresses on the fluid's side of the wall, kinematic, along the velocity components: positive ones slow
        these down. Shaped as the velocity; and the next state.
        """
        ...


class WallModelFactory(Protocol):
    """What an entry point of ``solver.wall_models`` names: builds a model from the ``[wall_model]`` table."""

    def __call__(self, *, grid: Grid, nu: float, **options: Any) -> WallModel:
        """Build the model; raises CaseError for options it does not know."""
        ...


@dataclass(frozen=True)
class Stress:
    """The stresses on one rank: ``planes[axis][end]`` is the pair along the components `along(axis)`.

    Each plane has one entry along the axis; component i is where u_i lives. Ends without a model are left out.
    """

    planes: dict[int, dict[int, Pair]]

    @staticmethod
    def along(axis: int) -> tuple[int, int]:
        """The components along a wall across `axis`."""
        return (0, 3 - axis)


class WallStress:
    """A wall model on the modelled walls of a grid.

    Velocities are taken at the height on the straight line between the two centres around it, and both components at
    cell centres. Walls across y are seen by all ranks alike.

    Parameters
    ----------
    operators : the discrete calculus of a grid with modelled walls, across y, or y and z.
    model, height, nu : what acts, the height of its input, the kinematic viscosity.
    """

    def __init__(self, operators: Operators, model: WallModel, height: float, nu: float) -> None:
        self.operators, self.model, self.height, self.nu = operators, model, height, nu
        self.ends = {axis: ends for axis in (1, 2) if (ends := modelled_ends(operators.grid, axis))}
        self.beside = {axis: self._beside(axis) for axis in self.ends}

    def init(self) -> State:
        """The state before the first step; entries of walls across z are fields of which a rank has its planes."""
        nx, ny, nz = self.operators.local_shape
        shapes = {1: (nx, 1, nz), 2: (nx, ny, 1)}
        state: State = {}
        for axis, ends in self.ends.items():
            rest = self.operators.tensor(0.0).expand(len(ends), *shapes[axis])
            own = self.model.init(self.shown((rest, rest), axis))
            state |= {f"{'xyz'[axis]}/{name}": value for name, value in own.items()}
        return state

    @staticmethod
    def in_slabs(name: str, value: Tensor) -> bool:
        """Whether an entry of the state is a field of which every rank has its planes; all others are equal."""
        return name.startswith("z/") and value.ndim >= 3

    def overruled(self, state: State) -> Tensor:
        """The share of answers that a guard has replaced so far, where there is one (collective)."""
        slabs, none = self.operators.decomposition, self.operators.tensor(0.0)
        own = {n: v.sum() for n, v in state.items() if slabs.is_root or self.in_slabs(n, v)}
        counts = [[v for n, v in own.items() if n.endswith(f"/{what}")] for what in ("overruled", "asked")]
        refused, asked = slabs.sum(torch.stack([sum(c, start=none) for c in counts]))
        share: Tensor = refused / asked.clamp_min(1.0)
        return share

    def __call__(self, velocity: Velocity, t: Number, state: State) -> tuple[Stress, State]:
        """The stresses of this instant, and the next state (collective)."""
        planes: dict[int, dict[int, Pair]] = {}
        after: State = {}
        for axis, ends in self.ends.items():
            prefix = f"{'xyz'[axis]}/"
            own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
            stress, own = self.model(self.sample(velocity, axis), cast("float", t), own)
            after |= {prefix + name: value for name, value in own.items()}
            first, second = (self._where_it_lives(f, i, axis) for f, i in zip(stress, Stress.along(axis), strict=True))
            planes[axis] = {end: (first[k], second[k]) for k, end in enumerate(ends) if self._has(axis, end)}
        return Stress(planes), after

    def sample(self, velocity: Velocity, axis: int) -> WallSample:
        """What the model sees of the walls across `axis` (collective)."""
        line, op = self.operators.grid.volume_axes[axis], self.operators
        fields = [velocity.strain.to_centre(velocity.staggered[i], i) for i in Stress.along(axis)]
        start, stop = (op.decomposition.planes.start, op.decomposition.planes.stop) if axis == 1 else (0, line.n)
        found = []
        for f in fields:
            for end in self.ends[axis]:
                plane = torch.zeros_like(edge(f, axis, 0))
                for index, share in line_at(line, end, self.height):
                    if start <= index < stop:
                        plane = plane + share * f.narrow(DIM[axis], index - start, 1)
                found.append(plane)
        seen = torch.stack(found)
        seen = op.decomposition.sum(seen) if axis == 1 else seen
        count = len(self.ends[axis])
        return self.shown((seen[:count], seen[count:]), axis)

    def shown(self, velocity: Pair, axis: int) -> WallSample:
        """The sample of velocities at the height above the walls across `axis`."""
        return WallSample(velocity, self.height, self.nu, self.operators.grid.reach_of_walls(axis), self.beside[axis])

    def _beside(self, axis: int) -> Tensor | float:
        """The distance of each place on the walls across `axis` from the nearest wall across the other axis."""
        along, grid = 3 - axis, self.operators.grid
        walls = [end for end, wall in enumerate(grid.walls.get(along, ())) if wall is not None]
        if not walls:
            return math.inf
        line = grid.volume_axes[along]
        distances = [line.faces[-1] - line.centres if end else line.centres - line.faces[0] for end in walls]
        nearest = self.operators.tensor(np.min(distances, axis=0))
        return (
            nearest[None, None, self.operators.decomposition.planes, None] if along == 1 else nearest[None, None, None]
        )

    def _has(self, axis: int, end: int) -> bool:
        """Whether this rank has the wall."""
        slabs = self.operators.decomposition
        return axis != 1 or (slabs.above if end else slabs.below) is None

    def _where_it_lives(self, f: Tensor, component: int, axis: int) -> Tensor:
        """A stress at centres where the component lives; at the face of another wall it does not matter."""
        if component not in self.operators.volume_axes:
            return f
        after = None
        if component == 1:
            after = self.operators.decomposition.from_above(edge(f, component, 0))
        return mean(join([f, edge(f, component, -1) if after is None else after], component), component)

    def fluxes(self, velocity: Velocity, stress: Stress) -> Iterator[tuple[tuple[int, int], int, Tensor]]:
        """What the momentum flux F_ij lacks at the faces of walls: (i, j), the end, and the plane to add there.

        The Laplacian has the viscous flux between the first centre and its ghost there, which is taken back.
        """
        for axis, planes in stress.planes.items():
            metric = self.operators.metric[axis]
            for end, pair in planes.items():
                spacing = edge(metric.spacing, axis, -end)
                for i, tau in zip(Stress.along(axis), pair, strict=True):
                    f = self.operators.inner(velocity.staggered[i], axis)
                    first, second = (edge(f, axis, k) for k in ((-2, -1) if end else (0, 1)))
                    viscous = self.nu * (second - first) / spacing
                    yield (i, axis), end, viscous + tau if end else viscous - tau


def modelled_ends(grid: Grid, axis: int) -> tuple[int, ...]:
    """The ends of an axis, 0 lower and 1 upper, that are walls with a model."""
    walls = grid.walls.get(axis, (None, None))
    return tuple(end for end in (0, 1) if (wall := walls[end]) is not None and wall.modelled)


def line_at(line: FiniteVolumeAxis, end: int, height: float) -> list[tuple[int, float]]:
    """The cells whose centres are around a height above one end, and the share of each in the value there."""
    distance = line.faces[-1] - line.centres[::-1] if end else line.centres - line.faces[0]
    upper = int(min(max((distance < height).sum(), 1), line.n - 1))
    share = float((height - distance[upper - 1]) / (distance[upper] - distance[upper - 1]))
    cells = [(upper - 1, 1.0 - share), (upper, share)]
    return [(line.n - 1 - index if end else index, part) for index, part in cells if part]
