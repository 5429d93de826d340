"""Frames of values at cell centres, as data have them and operators see them, and the flow of a simulation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from closures.coupling.resample import Resampler, network_grid
from closures.coupling.unrolled import Unrolled, check_gradient
from closures.coupling.update import Update
from closures.operators.domain import Domain
from closures.operators.noise import seeds_of
from closures.operators.predictor import Predictor
from solver.discretisation.calculus import Components
from solver.discretisation.velocity import Velocity
from solver.flow.simulation import Simulation
from solver.grid.axis import Array, FiniteVolumeAxis


class Frames:
    """Velocities of a simulation, as coefficients, from and to values (3, nx, ny, nz) at cell centres.

    Parameters
    ----------
    simulation : whose coefficients; its points are those of its modes and cells, `domain`.
    """

    def __init__(self, simulation: Simulation) -> None:
        self.simulation, self.operators = simulation, simulation.operators
        self.grid = network_grid(self.operators.grid)
        self.resampler, self.domain = Resampler(self.operators, self.grid), Domain.of(self.grid)
        self._inverses = {d: self.operators.tensor(unaveraging(line)) for d, line in self.grid.volume_axes.items()}

    def start(self, values: Tensor) -> Components:
        """Coefficients, divergence-free, of one frame.

        A velocity of the solver comes back as it was: the averages over two faces that centred values are along
        finite-volume axes are undone.
        """
        u, v, w = (torch.zeros_like(c) for c in self.simulation.velocity.coefficients)
        velocity = list(values.to(self.operators.device, self.operators.dtype))
        for d, matrix in self._inverses.items():
            velocity[d] = torch.movedim(torch.movedim(velocity[d], d, -1) @ matrix.T, -1, d)
        own = torch.stack(velocity)[..., self.resampler.decomposition.planes, :]
        return self.simulation.flow.solenoidal(self.resampler.changed((u, v, w), own))

    def centred(self, velocity: Components) -> Tensor:
        """A frame at cell centres, (3, nx, local ny, nz)."""
        return self.resampler.centred(Velocity(self.simulation.flow.strain, velocity))

    def values(self, velocities: Sequence[Components]) -> Tensor:
        """Frames at cell centres, (frames, 3, nx, ny, nz), whole on every rank."""
        slabs = self.resampler.decomposition
        return slabs.all_planes(torch.stack([self.centred(u) for u in velocities]), slabs.plane_counts)


class Trajectory(Frames):
    """The frames that follow one another where an `Update` acts, as it does in the time loop.

    A surrogate starts from the frame before, a corrector from where the solver's steps have led.

    Parameters
    ----------
    predictor : see `Update`.
    simulation : whose grid, projection and ends these are.
    half_precision : see `Update`.
    steps : of the simulation before each answer, which then corrects them; 0: the answer stands for them.

    Raises
    ------
    CaseError : no gradient passes the projection of the simulation.
    """

    def __init__(
        self, predictor: Predictor, simulation: Simulation, half_precision: bool = False, steps: int = 0
    ) -> None:
        check_gradient(simulation)
        super().__init__(simulation)
        self.predictor, self.steps, self.unrolled = predictor, steps, Unrolled(simulation) if steps else None
        self.update = Update(predictor, self.grid, precision=None, half_precision=half_precision)

    def path(self, start: Components, steps: int, through: bool = True) -> list[Components]:
        """`start` and the frames that follow it; `through`: gradients reach all the answers before the last."""
        return self.paths(start, steps, through, (None,))[0]

    def paths(
        self, start: Components, steps: int, through: bool, seeds: Sequence[int | None]
    ) -> list[list[Components]]:
        """As `path`, of the answers that a network draws with each of these seeds; None: it draws nothing."""
        begun, found = self.arrived(start), []
        for seed in seeds:
            frames = [start]
            for k in range(steps):
                u, v, w = frames[-1]
                velocity = (u, v, w) if through else (u.detach(), v.detach(), w.detach())
                before = self.arrived(velocity) if k else begun
                frames.append(self.answered(before, () if seed is None else seeds_of(seed, k)))
            found.append(frames)
        return found

    def after(self, velocity: Components) -> Components:
        """The frame that follows one."""
        return self.answered(self.arrived(velocity))

    def arrived(self, velocity: Components) -> Components:
        """Where the solver's steps lead, if it takes any."""
        return velocity if self.unrolled is None else self.unrolled(velocity, self.steps)

    def answered(self, velocity: Components, seeds: Sequence[int] = ()) -> Components:
        """What the network makes of that."""
        return self.update(Velocity(self.simulation.flow.strain, velocity), self.simulation.flow.solenoidal, seeds)


def unaveraging(line: FiniteVolumeAxis) -> Array:
    """The matrix whose result, averaged to upper faces and from there to centres, is what it was applied to.

    In the sense of least squares: what no average can be (a value that changes sign from cell to cell) is lost.
    """
    n = line.points
    to_faces = 0.5 * (np.eye(n) + np.eye(n, k=1))
    to_centres = 0.5 * (np.eye(n) + np.eye(n, k=-1))
    if line.periodic:
        to_faces[-1, 0] += 0.5
        to_centres[0, -1] += 0.5
    else:  # nothing passes through the upper wall
        to_faces[-1] = 0.0
        to_centres[:, -1] = 0.0
    return np.asarray(np.linalg.pinv(to_faces, rcond=1e-10) @ np.linalg.pinv(to_centres, rcond=1e-10))
