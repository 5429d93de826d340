"""The step: a low-storage Runge-Kutta scheme with a projection a stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from solver.flow.flow import Flow
from solver.flow.number import Number
from solver.flow.state import State


@dataclass(frozen=True)
class LowStorageScheme:
    """``u <- u + dt (gamma_l F(u) + rho_l F_previous)``; stage l spans ``(gamma_l + rho_l) dt``.

    A part D of F that is stiff may be implicit: it then acts over the whole stage, on the velocity after it with the
    weight ``beta_l``, with the rest of the span on that before.
    """

    name: str
    order: int
    gamma: tuple[float, ...]
    rho: tuple[float, ...]
    beta: tuple[float, ...]
    imaginary_limit: float  # stable |lambda dt| on the imaginary axis (advection)
    real_limit: float  # and on the negative real axis (diffusion)

    @property
    def stages(self) -> int:
        """Right-hand sides a step."""
        return len(self.gamma)

    @property
    def spans(self) -> tuple[float, ...]:
        """Share of dt covered by each stage."""
        return tuple(g + r for g, r in zip(self.gamma, self.rho, strict=True))


# Wray (1986); Spalart, Moser & Rogers (1991), J. Comput. Phys. 96, 297, eq. (A4). With D it is of second order, and
# |amplification| <= 1 for any D <= 0 within 1.7 of the imaginary axis and 2.5 of the real one.
RK3 = LowStorageScheme(
    name="rk3",
    order=3,
    gamma=(8 / 15, 5 / 12, 3 / 4),
    rho=(0.0, -17 / 60, -5 / 12),
    beta=(37 / 160, 5 / 24, 1 / 6),
    imaginary_limit=1.73,
    real_limit=2.51,
)


class TimeStep:
    """The length of a step: a float64 number on the device, and on the host from when it is first asked for.

    Parameters
    ----------
    on_device : the number.
    read : gives it on the host, by default by waiting for the device; of a batch, the tensor of all.
    """

    def __init__(self, on_device: Tensor, read: Callable[[], Number] | None = None) -> None:
        self.on_device, self._read = on_device, read or on_device.item
        self._known: Number | None = None

    @property
    def value(self) -> Number:
        """The number, once it is known; of a batch those of all members, (members, 1, 1, 1), where they are."""
        if self._known is None:
            self._known = self._read()
        return self._known

    def __float__(self) -> float:
        return float(self.value)


def runge_kutta(flow: Flow, state: State, dt: TimeStep, scheme: LowStorageScheme = RK3) -> State:
    """The state a time `dt` later; nothing that is given changes, and gradients flow through.

    Raises
    ------
    Diverged : `dt` says so when it is read: in the midst of the first stage, which a GPU has queued by then.
    PressureSolveError : the pressure around solids did not reach its tolerance.
    """
    velocity, closure, walls, t = state.velocity, state.closure, state.walls, state.t
    pressure, drive, impulse, rate = state.pressure, state.drive, None, None
    scalars, scalar_rates = state.scalars, None
    for stage, (span, weights) in enumerate(zip(scheme.spans, _weights(flow, scheme, dt), strict=True)):
        term, closure = flow.subgrid(velocity, t, closure)
        stress, walls = flow.wall_stress(velocity, t, walls)
        scalars, scalar_rates = flow.transported(velocity, scalars, term, scalar_rates, weights)
        u, rate = flow.advanced(velocity, flow.tendency(velocity, term, stress), rate, weights)
        u, pressure, taken, total = flow.projected(u, length := span * dt.value, pressure)
        u, column = flow.diffused(velocity, u, weights)
        if flow.forcing.is_affine or stage == scheme.stages - 1:
            u, drive, taken = flow.driven(u, taken, length, column, total)
        velocity, t = flow.velocity(u), t + length
        impulse = taken if impulse is None or taken is None else impulse + taken
    done = state.t + dt.value, state.step + 1, dt.value
    return State(velocity, *done, scalars, closure, walls, pressure, drive, impulse)


def _weights(flow: Flow, scheme: LowStorageScheme, dt: TimeStep) -> list[tuple[Tensor, ...]]:
    """Of `Flow.advanced` and `Flow.diffused`, stage by stage, made on the device."""
    shares = _shares(scheme, flow.stiff_nu, flow.operators.device)
    if flow.operators.members is not None:
        every = [[(share * dt.on_device).to(flow.operators.dtype) for share in stage] for stage in shares[..., 0]]
        return [tuple(stage) for stage in every]
    weights = (shares * dt.on_device).to(flow.operators.dtype)
    return [stage.unbind() for stage in weights[..., 0].unbind()]


@cache
def _shares(scheme: LowStorageScheme, nu: float, device: torch.device) -> Tensor:
    """`_weights` over dt, float64: each in a cell of 16 bytes, which compiled kernels take for granted."""
    cells = np.zeros((scheme.stages, 5, 4))
    stiff = [[nu * share for share in shares] for shares in (scheme.spans, scheme.beta)]
    cells[..., 0] = np.transpose([scheme.gamma, scheme.rho, *stiff, scheme.spans])
    return torch.as_tensor(cells, device=device)
