"""A wall model under guard: where its stress cannot be used a law of the wall acts, and that is counted."""

from __future__ import annotations

import torch
from torch import Tensor

from solver.flow.closure import State
from solver.flow.wall_stress import Pair, WallModel, WallSample

OVERRULED, ASKED = "overruled", "asked"
LARGEST = 10.0  # times the stress of the law in reserve; impinging flow has a few times as much


class GuardedWallModel:
    """The stress of `model` where it is finite and at most `LARGEST` times that of `reserve`, else the latter.

    The state counts points at each place along the wall, on the device: nothing waits for them, and a rank has those of
    its planes. Gradients pass through whichever acts.

    Parameters
    ----------
    model : learned, or of another package.
    reserve : a law of the wall, without memory.
    """

    def __init__(self, model: WallModel, reserve: WallModel) -> None:
        self.model, self.reserve, self.name = model, reserve, model.name

    def init(self, sample: WallSample) -> State:
        """Nothing has happened yet."""
        self.reserve.init(sample)
        none = _counted(torch.zeros_like(sample.velocity[0]))
        return self.model.init(sample) | {OVERRULED: none, ASKED: none.clone()}

    def __call__(self, sample: WallSample, t: float, state: State) -> tuple[Pair, State]:
        """The stresses, and the next state."""
        inner = {name: value for name, value in state.items() if name not in (OVERRULED, ASKED)}
        found, inner = self.model(sample, t, inner)
        law, _ = self.reserve(sample, t, {})
        usable = _square(found) <= LARGEST**2 * _square(law)  # NaN is not
        first, second = (torch.where(usable, a, b) for a, b in zip(found, law, strict=True))
        counts = {OVERRULED: state[OVERRULED] + _counted(~usable), ASKED: state[ASKED] + _counted(usable | ~usable)}
        return (first, second), inner | counts


def _counted(at: Tensor) -> Tensor:
    return at.sum((-4, -3), keepdim=True, dtype=torch.float64)


def _square(stress: Pair) -> Tensor:
    return stress[0] * stress[0] + stress[1] * stress[1]
