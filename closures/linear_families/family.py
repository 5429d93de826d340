"""What every family of linear problems offers: parameters drawn from a seed, and the system they make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from closures.linear_families.sequences.system import System
from closures.linear_families.volumes import Volumes

Parameters = Mapping[str, np.ndarray]


class Family(Protocol):
    """A partial differential equation whose parameters are random.

    Attributes
    ----------
    name : as in recipes.
    unknown : what the solution is called in the file.
    volumes : its cells.
    """

    name: str
    unknown: str
    volumes: Volumes

    @property
    def default_method(self) -> str:
        """The fastest method measured, see docs/decisions/0011-recycling.md."""
        ...

    def draw(self, rng: np.random.Generator) -> Parameters:
        """The parameters of one sample; arrays of the grid's shape are fields, others are scalars or coefficients."""
        ...

    def likeness(self, parameters: Parameters) -> np.ndarray:
        """The array whose Frobenius distance says how similar two samples are."""
        ...

    def system(self, parameters: Parameters) -> System:
        """The discrete problem; families whose matrix never changes return the same matrix object."""
        ...


def unit_box(shape: tuple[int, ...]) -> Volumes:
    """The unit square or cube with prescribed values all around."""
    d = len(shape)
    return Volumes(shape, (1.0,) * d, (("value", "value"),) * d)
