"""What is wrong with the path that a network takes in its flow: by the equations (LESnets), by labels, or by both."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from closures.coupling.frames import Trajectory
from closures.losses.les_residual import LesResidual
from closures.losses.objective import LOSS, MeanOfSamples
from closures.losses.relative_l2 import fluctuation_error, relative_l2
from closures.operators.domain import Domain
from closures.training.objective import mirrored, perturbed


class PathLoss(MeanOfSamples):
    """Relative residual, or error, of the path that a network takes from the first frame of a window.

    An objective of `closures.training.fit`; samples are (steps + 1, 3, nx, ny, nz) velocities at cell centres, of which
    the residual reads the first frame. The weights that are kept are those of the smallest loss on the validation
    windows: where labels are not in the loss they do not choose either, and errors against them are for the reader.

    Parameters
    ----------
    path : makes trajectories of the network's answers.
    residual : of the equations on them, on the grid of `path`; None where they are not what is taught.
    equations, data : weights of the residual and of the relative error against the later frames; both: the hybrid loss.
    noise : of the first frame, see `closures.training.objective.perturbed`.
    error : of frames against others on a domain, one number each, of `closures.losses.relative_l2`.
    mirrors : directions along which half of the windows are reflected.
    through : gradients flow through the whole path; false: each step learns from its own pair of frames.
    """

    def __init__(
        self,
        path: Trajectory,
        residual: LesResidual | None,
        equations: float = 1.0,
        data: float = 0.0,
        noise: Tensor | None = None,
        through: bool = True,
        error: Callable[[Tensor, Tensor, Domain], Tensor] = relative_l2,
        mirrors: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.network = path.predictor.network
        self.path, self.residual, self.through = path, residual, through
        self.equations, self.data, self.noise, self.error = equations, data, noise, error
        self.mirrors = mirrors

    def forward(self, batch: Tensor, seeds: Sequence[int]) -> Tensor:
        """``(batch, steps + 1, 3, nx, ny, nz)`` to the loss."""
        return self.losses(batch, seeds).mean()

    def losses(self, batch: Tensor, seeds: Sequence[int]) -> Tensor:
        """The loss of each window, (batch,)."""
        batch = mirrored(batch, seeds, self.mirrors, self.path.domain)
        first = perturbed(batch[:, 0], seeds, self.noise)
        windows = zip(first, batch, seeds, strict=True)
        return torch.stack([self.loss(u, window, seed) for u, window, seed in windows])

    def loss(self, first: Tensor, window: Tensor, seed: int = 0) -> Tensor:
        """Of the path from one frame and the window it should stay with, a scalar; `seed`: of what is drawn, if any."""
        frames = self.path.path(self.path.start(first), len(window) - 1, self.through)
        total = torch.zeros((), dtype=frames[0][0].real.dtype, device=window.device)
        if self.equations > 0:
            assert self.residual is not None
            total = total + self.equations * self.residual.relative(frames)
        if self.data > 0:
            answers, targets = self.path.values(frames[1:]), window[1:].to(self.path.operators.dtype)
            total = total + self.data * self.error(answers, targets, self.path.domain).mean()
        return total

    def measure(self, batch: Tensor, seeds: Sequence[int]) -> dict[str, Tensor]:
        """The loss; residual, errors of the last step and of one, and what no change at all would score."""
        rows: list[dict[str, Tensor]] = []
        for window, loss in zip(batch, self.losses(batch, seeds), strict=True):
            last, domain = len(window) - 1, self.path.domain
            frames = self.path.path(self.path.start(window[0]), last)
            answers, targets = self.path.values(frames).to(window), window
            error = fluctuation_error(answers, targets, domain)
            still = fluctuation_error(window[:1], window[1:2], domain)[0]
            errors = {f"fluctuation_error_{last}": error[last]} if last > 1 else {}
            errors |= {"fluctuation_error": error[1], "frozen_fluctuation_error": still}
            residual = {} if self.residual is None else {"residual": self.residual.relative(frames)}
            rows.append({LOSS: loss} | residual | errors)
        return {name: torch.stack([row[name].double() for row in rows]) for name in rows[0]}
