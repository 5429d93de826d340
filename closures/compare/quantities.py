"""What is judged: a name, a word for people, the unit it is printed in, and the reference's own uncertainty."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Quantity:
    """An error that can be smaller or larger; printed times `scale` in `unit`.

    ``floor`` is how far references of the same flow disagree on it: published databases, or trajectories of a filtered
    simulation; zero where only one is known.
    """

    key: str
    label: str
    meaning: str
    scale: float = 100.0
    unit: str = "%"
    floor: float = 0.0

    def with_floor(self, floor: float) -> Quantity:
        """The same with another floor."""
        return replace(self, floor=float(floor))
