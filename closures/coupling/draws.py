"""How a run uses a network that draws its answers."""

from __future__ import annotations

from dataclasses import dataclass

from closures.operators.noise import seeds_of


@dataclass(frozen=True)
class Draws:
    """Which answers, and how many at a time.

    Parameters
    ----------
    count : answers whose mean is taken: 1 is one of those that may follow, many are what is expected of them.
    seed : of the noise. Runs with the same have the same noise at the same turn; runs with others are an ensemble.
    """

    count: int = 1
    seed: int = 0

    def seeds(self, turn: int) -> tuple[int, ...]:
        """Of the answers of one turn."""
        return seeds_of(self.seed, turn, self.count)
