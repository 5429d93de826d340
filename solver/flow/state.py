"""One instant of a flow as a value."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import Tensor

from solver.discretisation.velocity import Velocity
from solver.flow.closure import State as Memory
from solver.flow.number import Number
from solver.flow.projection import Pressure


@dataclass(frozen=True)
class State:
    """What a step starts from and leads to, and what a checkpoint holds of the flow.

    Parameters
    ----------
    velocity : divergence-free, with the mass flux or the energies that the forcing holds.
    t, step : time, and the number of steps that led here.
    dt : length of the last step; 0 before the first.
    scalars : coefficients of the scalars by name, at cell centres.
    closure, walls : what the closure and the wall model remember.
    pressure : of the last stage; None before the first step.
    drive : volume mean of the acceleration that drove the last stage along x.
    impulse : what the solids took from the fluid during the last step, (3,), of this rank and per unit density; None
        without solids.
    """

    velocity: Velocity
    t: Number = 0.0
    step: int = 0
    dt: Number = 0.0
    scalars: dict[str, Tensor] = field(default_factory=dict)
    closure: Memory = field(default_factory=dict)
    walls: Memory = field(default_factory=dict)
    pressure: Pressure | None = None
    drive: Tensor | float = math.nan
    impulse: Tensor | None = None
