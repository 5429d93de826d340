"""Time derivatives along a trajectory of evenly spaced frames, at every frame, the first and the last included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from solver.discretisation.calculus import Components
from solver.errors import CaseError

TimeScheme = Literal["central", "one_sided", "midpoint", "runge_kutta"]
Stencil = dict[int, float]
LEAST = {"central": 3, "one_sided": 3, "midpoint": 2, "runge_kutta": 2}  # frames


def stencil(n: int, frames: int, scheme: Literal["central", "one_sided"]) -> Stencil:
    """Weights by frame of the second-order difference for ``interval du/dt`` at frame `n`.

    Central differences alone leave the ends without an equation and couple frames of equal parity only; here the ends
    are one-sided. ``one_sided`` looks back wherever there are two frames to look back to.
    """
    if n == 0:
        return {0: -1.5, 1: 2.0, 2: -0.5}
    if n == frames - 1 or (scheme == "one_sided" and n > 1):
        return {n: 1.5, n - 1: -2.0, n - 2: 0.5}
    return {n + 1: 0.5, n - 1: -0.5}


def combination(frames: Sequence[Components], weights: Stencil) -> Components:
    """The weighted sum of some frames, component by component."""

    def total(i: int) -> Tensor:
        parts = [weight * frames[n][i] for n, weight in weights.items()]
        return sum(parts[1:], start=parts[0])

    return total(0), total(1), total(2)


def check_length(frames: int, scheme: TimeScheme) -> None:
    """Raises CaseError if there are too few frames for the scheme."""
    if frames < LEAST[scheme]:
        raise CaseError(f"[equations] scheme = '{scheme}': needs {LEAST[scheme]} frames, got {frames}: use more steps")
