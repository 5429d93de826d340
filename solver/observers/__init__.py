"""Hooks observe the flow; they may ask to stop, and never edit it."""

from __future__ import annotations

from typing import Protocol

from solver.flow.simulation import Simulation


class Hook(Protocol):
    """Called after every step, on every rank.

    ``state`` and ``restore`` carry what a restart needs: named arrays, equal on every rank or gathered on the root.
    """

    name: str

    def __call__(self, simulation: Simulation) -> str | None:
        """Observe; a returned word asks the loop to stop with that status."""
        ...
