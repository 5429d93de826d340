"""From a network's answers to a trajectory of the solver: what must hold is imposed, not learned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from closures.coupling.resample import Resampler, network_grid
from closures.coupling.unrolled import Unrolled, check_gradient
from closures.coupling.whole_field import with_flux_of
from closures.operators.domain import Domain
from closures.operators.predictor import Predictor
from solver.discretisation.calculus import Components
from solver.discretisation.velocity import Velocity
from solver.flow.simulation import Simulation
from solver.grid.axis import Array, FiniteVolumeAxis
from solver.grid.grid import Grid


class Start:
    """Coefficients, divergence-free, of a velocity (3, nx, ny, nz) at cell centres.

    A velocity of the solver comes back as it was: the averages over two faces that centred values are along
    finite-volume axes are undone.

    Parameters
    ----------
    simulation : whose coefficients.
    resampler : between the modes of its grid and the points of the values.
    grid : of the values.
    """

    def __init__(self, simulation: Simulation, resampler: Resampler, grid: Grid) -> None:
        self.simulation, self.resampler, self.operators = simulation, resampler, simulation.operators
        self.inverses = {d: self.operators.tensor(unaveraging(line)) for d, line in grid.volume_axes.items()}

    def __call__(self, values: Tensor) -> Components:
        """One frame."""
        u, v, w = (torch.zeros_like(c) for c in self.simulation.velocity.coefficients)
        velocity = list(values.to(self.operators.device, self.operators.dtype))
        for d, matrix in self.inverses.items():
            velocity[d] = torch.movedim(torch.movedim(velocity[d], d, -1) @ matrix.T, -1, d)
        return self.simulation.flow.solenoidal(self.resampler.changed((u, v, w), torch.stack(velocity)))


class Head:
    """``u_n+1 = P(u + change(u))`` from a given first frame, as operators act in the time loop.

    A surrogate starts from ``u = u_n``, a corrector from where the solver's steps have led.

    Hard-encoded: the first frame; the component through a wall, zero; the others at walls, by the ghosts of the scheme;
    the divergence, by the projection; what `with_flux_of` keeps, whatever drives the flow: momentum is the solver's
    affair, in training as in a run. What lies beyond the modes of the network's points stays as it was.

    Parameters
    ----------
    predictor : of one frame from the one before, at cell centres.
    simulation : whose grid, projection and ends these are.
    half_precision : the network runs in bfloat16; the velocity never does.
    steps : of the simulation before each answer, which then corrects them; 0: the answer stands for them.

    Raises
    ------
    CaseError : no gradient passes the projection of the simulation.
    """

    def __init__(
        self, predictor: Predictor, simulation: Simulation, half_precision: bool = False, steps: int = 0
    ) -> None:
        check_gradient(simulation)
        self.steps, self.unrolled = steps, Unrolled(simulation) if steps else None
        self.predictor, self.simulation, self.half_precision = predictor, simulation, half_precision
        self.operators = simulation.operators
        grid = network_grid(self.operators.grid)
        self.resampler, self.domain = Resampler(self.operators, grid), Domain.of(grid)
        self.start = Start(simulation, self.resampler, grid)

    def path(self, start: Components, steps: int, through: bool = True) -> list[Components]:
        """`start` and the frames that follow it; `through`: gradients reach all the answers before the last."""
        frames = [start]
        for _ in range(steps):
            before = frames[-1] if through else _detached(frames[-1])
            frames.append(self.after(before))
        return frames

    def after(self, velocity: Components) -> Components:
        """The frame that follows one."""
        if self.unrolled is not None:
            velocity = self.unrolled(velocity, self.steps)
        u = self.centred(velocity)
        inside = u.to(next(self.predictor.network.parameters()).dtype)[None]
        with torch.autocast(u.device.type, torch.bfloat16, enabled=self.half_precision):
            answer = self.predictor(inside, self.domain)
        change = (answer - inside)[0].to(self.operators.dtype)
        result = self.simulation.flow.solenoidal(self.resampler.changed(velocity, change))
        return with_flux_of(self.operators, result, velocity, self.simulation.flow.solenoidal)

    def centred(self, velocity: Components) -> Tensor:
        """A frame at cell centres, (3, nx, ny, nz)."""
        return self.resampler.centred(Velocity(self.simulation.flow.strain, velocity))

    def values(self, frames: Sequence[Components]) -> Tensor:
        """Frames at cell centres, (frames, 3, nx, ny, nz)."""
        return torch.stack([self.centred(u) for u in frames])


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


def _detached(velocity: Components) -> Components:
    return velocity[0].detach(), velocity[1].detach(), velocity[2].detach()
