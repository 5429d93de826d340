"""Training a subgrid model through the solver: what counts is the flow it makes, not the stress it gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from closures.coupling.frames import Frames
from closures.coupling.unrolled import Unrolled, check_gradient
from closures.losses.objective import LOSS
from closures.losses.relative_l2 import fluctuation_error
from closures.operators.domain import Domain
from closures.training.processes import ALONE, ProcessGroup
from solver.flow.batch import Batch, refusal
from solver.flow.simulation import Simulation

Profiles = tuple[Tensor, Tensor]
TOGETHER = 4  # windows whose flows are advanced as one: what a backward pass keeps of a segment is of so many
PAIRS = ((0, 0), (1, 1), (2, 2), (0, 1))  # the stresses of the statistics loss: uu vv ww uv


class APosteriori(nn.Module):
    """Windows of a trajectory against the path that the solver takes from their first frame.

    An objective of `closures.training.fit`; samples are (frames, 3, nx, ny, nz) velocities at cell centres, on as many
    points as the solver has modes. Ranks that share the flow each have the whole frames, and the same loss.
    ``trajectory``: mean relative error of the fluctuations over the frames; for short windows, since turbulence
    forgets. ``statistics``: `profile_error` of all frames of the batch together, those of other processes too, against
    the same frames of the data: the larger the batch, the less of it is chance. In validation it is that of the whole
    set. A model that is right keeps the statistics of the data for ever, so what it does to them in the first frames is
    what there is to learn from; how a flow that is already its own responds over a short time says little about the
    long run.

    Parameters
    ----------
    simulation : its closure made of `network`, its step a fixed fraction of that between frames.
    network : whose weights are trained.
    steps : of the solver between two frames.
    loss : see above.
    segment : steps kept in memory together, see `Unrolled`.
    group : the processes that share a batch.
    """

    def __init__(
        self,
        simulation: Simulation,
        network: nn.Module,
        *,
        steps: int,
        loss: Literal["trajectory", "statistics"] = "trajectory",
        segment: int = 1,
        group: ProcessGroup = ALONE,
    ) -> None:
        super().__init__()
        check_gradient(simulation)
        self.network, self.loss, self.steps, self.group = network, loss, steps, group
        self.unrolled = Unrolled(simulation, segment)
        self.size = 1 if refusal(simulation.flow) else TOGETHER
        self._batches: dict[int, tuple[Batch, Unrolled]] = {}
        self.frames = Frames(simulation)
        self.domain = self.frames.domain

    def forward(self, batch: Tensor, seeds: Sequence[int]) -> Tensor:
        """``(batch, frames, 3, nx, ny, nz)`` to the loss; nothing is drawn at random."""
        with self.unrolled.communicator.recording(self.frames.operators.device):
            paths, targets = self.pairs(batch)
        if self.loss == "trajectory":
            return self.errors(paths, targets).mean()
        own, true = (profiles(frames.flatten(0, 1), self.group.mean) for frames in (paths, targets))
        return profile_error(own, true, self.domain.like(paths))

    def measure(self, batch: Tensor, seeds: Sequence[int]) -> dict[str, Tensor]:
        """The error of each window, or first and second moments: of each window, own and true."""
        paths, targets = self.pairs(batch)
        if self.loss == "trajectory":
            return {LOSS: self.errors(paths, targets)}
        both = torch.stack([paths, targets], dim=1).double()
        second = torch.stack([_products(frames) for frames in both.flatten(0, 1)]).unflatten(0, both.shape[:2])
        return {"first": both.mean(dim=(2, 4, 6)), "second": second}

    def conclude(self, means: dict[str, Tensor]) -> dict[str, float]:
        """The loss of the whole set."""
        if self.loss == "trajectory":
            return {LOSS: float(means[LOSS])}
        stresses = means["second"] - torch.stack([means["first"][:, i] * means["first"][:, j] for i, j in PAIRS], 1)
        own, true = zip(means["first"], stresses, strict=True)
        return {LOSS: float(profile_error(own, true, self.domain.like(means["first"])))}

    def pairs(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """The solver's paths from the first frames, and the frames that are there, (batch, frames, 3, nx, ny, nz)."""
        groups = batch[:, 0].split(self.size)
        paths = torch.cat([self.paths(firsts, batch.shape[1] - 1) for firsts in groups])
        return paths, batch[:, 1:].to(paths.dtype)

    def errors(self, paths: Tensor, targets: Tensor) -> Tensor:
        """The error of each window, (batch,)."""
        domain, both = self.domain.like(paths), zip(paths, targets, strict=True)
        return torch.stack([fluctuation_error(path, target, domain).mean() for path, target in both])

    def path(self, first: Tensor, frames: int) -> Tensor:
        """The frames that follow `first`, as the solver has them: (frames, 3, nx, ny, nz)."""
        states = self.unrolled.path(self.frames.start(first), frames * self.steps, self.steps)
        return self.frames.values(list(states))

    def paths(self, firsts: Tensor, frames: int) -> Tensor:
        """`path` from several frames, which the solver advances as one: (batch, frames, 3, nx, ny, nz)."""
        count = len(firsts)
        if count == 1:
            return self.path(firsts[0], frames)[None]
        if count not in self._batches:
            with torch.no_grad():  # what ranks say of the grid has no gradient
                batch = Batch([self.unrolled.simulation] * count)
                whole = Simulation(batch.flow, self.unrolled.simulation.state, batch.control)
            self._batches[count] = batch, Unrolled(whole, self.unrolled.segment)
        batch, unrolled = self._batches[count]
        begun = batch.joined([self.frames.start(first) for first in firsts])
        ends = [batch.apart(end) for end in unrolled.path(begun, frames * self.steps, self.steps)]
        return torch.stack([self.frames.values(path) for path in zip(*ends, strict=True)])


def profile_error(own: Profiles, true: Profiles, domain: Domain) -> Tensor:
    """Mean relative squared error of the profiles of U, V, W and of uu, vv, ww, uv, and of U beside the walls.

    A profile is measured by the root mean square that it has in the data, or a tenth of the largest of its own group
    (means, stresses) where that is more, so that one which should vanish is not divided by zero.
    """
    weights = domain.y.weights
    total = own[0].new_zeros(())
    for found, wanted in zip(own, true, strict=True):
        squares = (wanted**2 * weights).sum(-1)
        scale = torch.maximum(squares, 1e-2 * squares.max())
        total = total + (((found - wanted) ** 2 * weights).sum(-1) / scale).mean()
    if not domain.y.periodic:  # the friction, which those averages over the height hardly see
        found, wanted = own[0][0, [0, -1]], true[0][0, [0, -1]]
        total = total + ((found / wanted - 1.0) ** 2).mean()
    return 0.5 * total


def profiles(frames: Tensor, over_all: Callable[[Tensor], Tensor] = lambda mean: mean) -> Profiles:
    """Means (3, ny) and stresses (4, ny) of fields (frames, 3, nx, ny, nz), over x, z and the frames.

    `over_all` takes the mean of what the processes have of each.
    """
    mean = over_all(frames.mean(dim=(0, 2, 4)))
    u = frames - mean.detach()[None, :, None, :, None]  # about the mean, products do not depend on it
    return mean, over_all(_products(u))


def _products(u: Tensor) -> Tensor:
    """Means of products of components, (4, ny), of (frames, 3, nx, ny, nz)."""
    return torch.stack([(u[:, i] * u[:, j]).mean(dim=(0, 1, 3)) for i, j in PAIRS])
