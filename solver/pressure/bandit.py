"""Tsallis-INF: choose among arms by the losses of those chosen before, and be hardly worse than the best of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
NEWTON_STEPS = 50


class TsallisInf:
    """The multi-armed bandit of Zimmert & Seldin (2021, J. Mach. Learn. Res. 22, 28) with reduced-variance estimates.

    Near-optimal both where losses are drawn independently and where they drift: regret grows like log t in the first
    case and like sqrt t in the second. Algorithm 1 there with ``alpha = 1/2``, ``eta_t = 4 / sqrt(t)`` and the
    estimator of eq. 6.

    Parameters
    ----------
    arms : how many there are.
    seed : of the draws.
    """

    def __init__(self, arms: int, seed: int = 0) -> None:
        self.losses = np.zeros(arms)  # estimated, cumulative
        self.pulls = np.zeros(arms, dtype=np.int64)
        self.shift = 0.0
        self.random = np.random.default_rng(seed)

    @property
    def rate(self) -> float:
        """``eta`` of the next draw."""
        return 4.0 / float(np.sqrt(self.pulls.sum() + 1))

    def probabilities(self) -> Array:
        """Of the next draw: ``4 / (eta (L_i - x))^2`` with x such that they add up to one."""
        eta, gap = self.rate, self.losses - self.losses.min()
        x = -2.0 / eta  # of a single arm; the sum is then at least one, and Newton's method descends from there
        for _ in range(NEWTON_STEPS):
            p = 4.0 / (eta * (gap - x)) ** 2
            step = (p.sum() - 1.0) / (eta * (p**1.5).sum())
            x -= step
            if abs(step) < 1e-14 * abs(x):
                break
        p = 4.0 / (eta * (gap - x)) ** 2
        return np.asarray(p / p.sum())

    def draw(self) -> int:
        """An arm."""
        return int(self.random.choice(len(self.losses), p=self.probabilities()))

    def learn(self, arm: int, loss: float) -> None:
        """Tell the loss of the arm drawn last, between 0 and 1."""
        p = self.probabilities()
        baseline = np.where(p >= self.rate**2, 0.5, 0.0)
        self.losses += baseline
        self.losses[arm] += (loss - baseline[arm]) / p[arm]
        self.pulls[arm] += 1

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        generator = self.random.bit_generator.state["state"]
        words = [(generator[k] >> (32 * i)) & 0xFFFFFFFF for k in ("state", "inc") for i in range(4)]
        return {"losses": self.losses, "pulls": self.pulls, "random": np.array(words, dtype=np.int64)}

    def restore(self, state: dict[str, Any], arms: list[tuple[int, int]] | None = None) -> None:
        """Continue from `state`; where its arms are others, `arms` pairs those of this bandit with those of the state.

        New arms begin with the least loss of the known ones, so that they are drawn.
        """
        pairs = arms if arms is not None else [(i, i) for i in range(len(self.losses))]
        if not pairs:
            return
        own, theirs = (list(side) for side in zip(*pairs, strict=True))
        losses, pulls = np.array(state["losses"])[theirs], np.array(state["pulls"])[theirs]
        self.losses, self.pulls = np.full_like(self.losses, losses.min()), np.zeros_like(self.pulls)
        self.losses[own], self.pulls[own] = losses, pulls
        words = [int(w) for w in state["random"]]
        value, increment = (sum(w << (32 * i) for i, w in enumerate(part)) for part in (words[:4], words[4:]))
        known = dict(self.random.bit_generator.state)
        known["state"] = {"state": value, "inc": increment}
        self.random.bit_generator.state = known
