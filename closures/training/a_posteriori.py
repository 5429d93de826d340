"""Training a subgrid model through the solver: what counts is the flow it makes, not the stress it gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from closures.loop.resample import Resampler, network_grid
from closures.losses.relative_l2 import fluctuation_error
from closures.operators.domain import Domain
from closures.training.head import Start
from closures.training.unrolled import Unrolled
from solver.simulation import Simulation
from solver.velocity import Velocity

PAIRS = ((0, 0), (1, 1), (2, 2), (0, 1))  # the stresses of the statistics loss: uu vv ww uv


class APosteriori(nn.Module):
    """Windows of a trajectory against the path that the solver takes from their first frame.

    An objective of `closures.training.fit`; samples are (frames, 3, nx, ny, nz) velocities at cell centres, on as many
    points as the solver has modes. ``trajectory``: mean relative error of the fluctuations over the frames; for short
    windows, since turbulence forgets. ``statistics``: `statistics_error` of the frames together; for windows of any
    length.

    Parameters
    ----------
    simulation : on one rank, its closure made of `network`, its step a fixed fraction of that between frames.
    network : whose weights are trained.
    steps : of the solver between two frames.
    loss : see above.
    segment : steps kept in memory together, see `Unrolled`.
    """

    def __init__(
        self,
        simulation: Simulation,
        network: nn.Module,
        *,
        steps: int,
        loss: Literal["trajectory", "statistics"] = "trajectory",
        segment: int = 1,
    ) -> None:
        super().__init__()
        self.network, self.loss, self.steps = network, loss, steps
        self.unrolled = Unrolled(simulation, segment)
        grid = network_grid(simulation.operators.grid)
        self.resampler, self.domain = Resampler(simulation.operators, grid), Domain.of(grid)
        self.start = Start(simulation, self.resampler, grid)

    def forward(self, batch: Tensor, seeds: Sequence[int]) -> Tensor:
        """``(batch, frames, 3, nx, ny, nz)`` to the loss; nothing is drawn at random."""
        return torch.stack([self.error(window) for window in batch]).mean()

    def measure(self, batch: Tensor) -> dict[str, Tensor]:
        """The loss of each window."""
        return {f"{self.loss}_error": torch.stack([self.error(window) for window in batch])}

    def error(self, window: Tensor) -> Tensor:
        """The loss of one window, a scalar."""
        path, targets = self.path(window[0], len(window) - 1), window[1:].to(self.resampler.operators.dtype)
        if self.loss == "trajectory":
            return fluctuation_error(path, targets, self.domain.like(path)).mean()
        return statistics_error(path, targets, self.domain.like(path))

    def path(self, first: Tensor, frames: int) -> Tensor:
        """The frames that follow `first`, as the solver has them: (frames, 3, nx, ny, nz)."""
        simulation = self.unrolled.simulation
        states = self.unrolled.path(self.start(first), frames * self.steps, self.steps)
        return torch.stack([self.resampler.centred(Velocity(simulation.strain, u)) for u in states])


def statistics_error(path: Tensor, targets: Tensor, domain: Domain) -> Tensor:
    """Mean relative squared error of the profiles of U, V, W and of uu, vv, ww, uv.

    Profiles are means over x, z and the frames of (frames, 3, nx, ny, nz), functions of y; a profile is measured by
    the root mean square that it or its own group (means, stresses) has in the data, whichever is larger, so that one
    which should vanish is not divided by zero.
    """
    weights = domain.y.weights
    total = path.new_zeros(())
    for own, true in zip(profiles(path), profiles(targets), strict=True):
        squares = (true**2 * weights).sum(-1)
        scale = torch.maximum(squares, 1e-2 * squares.max())
        total = total + (((own - true) ** 2 * weights).sum(-1) / scale).mean()
    return 0.5 * total


def profiles(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Means (3, ny) and stresses (4, ny) of fields (frames, 3, nx, ny, nz)."""
    mean = frames.mean(dim=(0, 2, 4))
    u = frames - mean[None, :, None, :, None]
    stresses = torch.stack([(u[:, i] * u[:, j]).mean(dim=(0, 1, 3)) for i, j in PAIRS])
    return mean, stresses
