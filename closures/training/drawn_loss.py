"""What is wrong with the paths that a network draws: the score of an ensemble against what came."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from closures.coupling.frames import Trajectory
from closures.losses.crps import plane_crps, wave_crps
from closures.losses.objective import LOSS
from closures.losses.relative_l2 import fluctuation_error
from closures.operators.domain import Domain
from closures.training.path_loss import PathLoss
from closures.training.tables import LossTable

DRAWING = 2  # beside the seed of a sample, so that members, tosses and noise are drawn apart
Score = Callable[[Tensor, Tensor, Domain], Tensor]


class DrawnLoss(PathLoss):
    """The score of several paths from the first frame of a window, each with noise of its own.

    An objective as `PathLoss` is. Members share their first frame, perturbed or not, and the solver's way to the
    network's first answer; noise of theirs is a function of the seed of the sample.

    Parameters
    ----------
    path, noise, through, mirrors : see `PathLoss`.
    members : number of paths.
    score : of frames (members, frames, 3, nx, ny, nz) against others on a domain, one number a frame.
    """

    def __init__(
        self,
        path: Trajectory,
        members: int,
        score: Score,
        noise: Tensor | None = None,
        through: bool = True,
        mirrors: Sequence[int] = (),
    ) -> None:
        super().__init__(path, None, 0.0, 1.0, noise, through, mirrors=mirrors)
        self.members, self.score = members, score

    def loss(self, first: Tensor, window: Tensor, seed: int = 0) -> Tensor:
        """See `PathLoss.loss`."""
        answers = self.drawn(first, len(window) - 1, self.members, seed)
        return self.score(answers, window[1:].to(answers), self.path.domain).mean()

    def drawn(self, first: Tensor, steps: int, members: int, seed: int) -> Tensor:
        """The frames that follow one on each path, (members, steps, 3, nx, ny, nz)."""
        seeds = np.random.SeedSequence([seed, DRAWING]).generate_state(members)
        paths = self.path.paths(self.path.start(first), steps, self.through, [int(n) for n in seeds])
        return torch.stack([self.path.values(frames[1:]) for frames in paths])

    def measure(self, batch: Tensor, seeds: Sequence[int]) -> dict[str, Tensor]:
        """The score; of the first answers the error of their mean and of one; what no change at all would score."""
        rows: list[dict[str, Tensor]] = []
        for window, loss, seed in zip(batch, self.losses(batch, seeds), seeds, strict=True):
            domain, target = self.path.domain, window[1:2]
            drawn = self.drawn(window[0], 1, self.members, seed).to(window)
            mean, one = (fluctuation_error(u, target, domain)[0] for u in (drawn.mean(0), drawn[0]))
            still = fluctuation_error(window[:1], target, domain)[0]
            errors = {"fluctuation_error": mean, "fluctuation_error_drawn": one, "frozen_fluctuation_error": still}
            rows.append({LOSS: loss} | errors)
        return {name: torch.stack([row[name].double() for row in rows]) for name in rows[0]}


def score_of(loss: LossTable) -> Score:
    """By plane and component and, with ``waves``, by wavenumber."""

    def score(members: Tensor, target: Tensor, domain: Domain) -> Tensor:
        found = plane_crps(members, target, domain, loss.alpha)
        return found + loss.waves * wave_crps(members, target, domain, loss.alpha) if loss.waves else found

    return score
