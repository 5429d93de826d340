"""The velocity that a wall model sees, averaged over a time of its own."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from closures.algebraic.wall_laws import KAPPA
from solver.flow.closure import State
from solver.flow.number import Number
from solver.flow.wall_stress import Pair, WallModel, WallSample

OWN = ("filtered_first", "filtered_second", "filtered_at", "friction")


class Filtered:
    """A wall model that is shown ``du_f/dt = (u - u_f) / T``, ``T = theta y / (kappa u_tau)``, in place of u.

    So the stress follows the mean flow and not each eddy, which takes the mismatch of the log layer away where the
    height is in the first cell (Yang, Park & Moin 2017, Phys. Rev. Fluids 2, 104601). u_tau is that of the last answer
    at the same place, at least ``nu / y``.

    Parameters
    ----------
    model : the wall model.
    theta : the time of averaging in units of ``y / (kappa u_tau)``.
    """

    def __init__(self, model: WallModel, theta: float) -> None:
        self.model, self.theta, self.name = model, theta, model.name
        self.graph_cycle = getattr(model, "graph_cycle", 0)

    def init(self, sample: WallSample) -> State:
        """Nothing is averaged yet: the first velocity is taken as it is."""
        first, second = (torch.zeros_like(f, memory_format=torch.contiguous_format) for f in sample.velocity)
        time = torch.full((), -math.inf, dtype=torch.float64, device=first.device)
        own = {"filtered_first": first, "filtered_second": second, "filtered_at": time}
        return self.model.init(sample) | own | {"friction": torch.ones_like(first)}

    def __call__(self, sample: WallSample, t: Number, state: State) -> tuple[Pair, State]:
        """The stresses of the average."""
        held = {name: state[name] for name in OWN}
        elapsed = (t - held["filtered_at"]).to(held["friction"].dtype)
        span = self.theta * sample.height / KAPPA / held["friction"].sqrt()
        share = -torch.expm1(-elapsed / span)
        old = held["filtered_first"], held["filtered_second"]
        first, second = (f + share * (u - f) for f, u in zip(old, sample.velocity, strict=True))
        inner = {name: value for name, value in state.items() if name not in OWN}
        stress, inner = self.model(replace(sample, velocity=(first, second)), cast("float", t), inner)
        least = (sample.nu / sample.height) ** 4
        friction = (stress[0] * stress[0] + stress[1] * stress[1]).clamp_min(least).sqrt()
        now = t if isinstance(t, Tensor) else torch.full_like(held["filtered_at"], t)
        own = {"filtered_first": first, "filtered_second": second, "filtered_at": now, "friction": friction}
        return stress, inner | own
