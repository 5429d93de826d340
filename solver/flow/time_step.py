"""How long a step may be."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from solver.discretisation.calculus import Components, Operators
from solver.discretisation.fusion import fused
from solver.discretisation.velocity import Velocity
from solver.errors import Diverged
from solver.flow.closure import EddyViscosity
from solver.flow.number import Number
from solver.flow.runge_kutta import RK3, LowStorageScheme, TimeStep
from solver.grid.axis import Axis, FiniteVolumeAxis
from solver.parallel.late import Reading


def equal_share(span: Number, longest: Tensor) -> Tensor:
    """The longest step, at most `longest`, of which a whole number makes up `span`; `longest` if that has no end.

    A span on the device has one.
    """
    if not isinstance(span, Tensor) and math.isinf(span):
        return longest
    whole = span if isinstance(span, Tensor) else torch.full_like(longest, span)
    return whole / (whole / longest * (1.0 - 1e-9)).ceil().clamp_min(1.0)  # round-off is not worth a step


class StepControl:
    """Chooses dt from the advective and diffusive limits of the present flow.

    ``cfl = dt max(sum_d |u_d| kappa_d)`` with ``kappa`` the largest wavenumber the discretisation sees: the highest
    retained mode along Fourier axes, 1/spacing along finite-volume axes. RK3 is stable up to 1.73. What walls and
    inflows impose counts before the fluid has moved (with the mean spacing), and so does the velocity that a body force
    adds within the step. Velocities are those seen in the frame in which advection is stepped (`MovingFrame`).

    Parameters
    ----------
    operators : the discrete calculus.
    cfl : target of the number above.
    dt : fixed step, if not None.
    dt_max : upper bound.
    implicit : whether molecular diffusion along y is, so that it limits nothing.
    frame : velocity of that frame along x.

    Attributes
    ----------
    reads : whether the host reads the step; that of a batch stays on the device.
    """

    def __init__(
        self,
        operators: Operators,
        cfl: float,
        dt: float | None = None,
        dt_max: float = math.inf,
        scheme: LowStorageScheme = RK3,
        implicit: bool = False,
        frame: float = 0.0,
    ) -> None:
        self.implicit, self.frame = implicit, (frame, 0.0, 0.0)
        self.operators, self.fixed, self.dt_max = operators, dt, dt_max
        self.cfl, self.diffusion = cfl, 0.9 * scheme.real_limit
        self.kappa = tuple(self._kappa(axis) for axis in range(3))
        self.reads = operators.members is None
        self.limit = ""
        self.advection_rate = 0.0
        mean = [self._mean_kappa(line) for line in operators.grid.axes]
        imposed = operators.grid.imposed_velocities
        rates = [sum(abs(u - c) * k for u, c, k in zip(v, self.frame, mean, strict=True)) for v in imposed]
        self.imposed_rate, self.along_force = max(rates, default=0.0), mean[0]

    def _kappa(self, axis: int) -> Tensor:
        op, line = self.operators, self.operators.grid.axes[axis]
        if isinstance(line, FiniteVolumeAxis):
            return op.along(op.local(1.0 / line.width, axis), axis)
        return op.along(np.array([2 * np.pi * line.highest_mode / line.length]), axis)

    @staticmethod
    def _mean_kappa(line: Axis) -> float:
        if isinstance(line, FiniteVolumeAxis):
            return line.n / line.length
        return 2 * math.pi * line.highest_mode / line.length

    def __call__(
        self,
        velocity: Velocity,
        term: object,
        nu: float,
        body_force: float = 0.0,
        longest: Number = math.inf,
        wait: Number = math.inf,
    ) -> TimeStep:
        """The step to take, the same on every rank.

        It is not more than `longest`, and a whole number of such steps makes up `wait`. `body_force` is the
        acceleration along x that acts whatever the flow does.

        Raises
        ------
        Diverged : the velocity or the eddy viscosity is not finite; when the step is read.
        """
        nu_t = term.nu_t if isinstance(term, EddyViscosity) else None
        with self.operators.timers("control"):
            fastest = self._rates(velocity.staggered, nu_t, self.operators.tensor(nu))
            rates = self.operators.decomposition.max(fastest.detach()).double()
            allowed = self._allowed(rates, body_force)
            dt = equal_share(wait, allowed).clamp_max(longest)
            self.found = torch.stack([*rates, allowed, dt])
        if not self.reads:
            return TimeStep(dt, lambda: dt)
        reading = Reading(self.found)
        return TimeStep(dt, lambda: self.read(*reading()))

    def read(self, advection: float, diffusion: float, allowed: float, dt: float) -> float:
        """The step on the host, from what was `found`, and which limit it was.

        Raises
        ------
        Diverged : the velocity or the eddy viscosity is not finite.
        """
        if not math.isfinite(advection) or math.isnan(dt):
            raise Diverged(
                "the velocity or the eddy viscosity is not finite; try a smaller [time] cfl or dt, or a finer grid"
            )
        self.advection_rate = max(advection, self.imposed_rate)
        self.limit = self._limit(diffusion, allowed)
        return dt

    def _allowed(self, rates: Tensor, body_force: float) -> Tensor:
        """The longest step that every limit allows."""
        if self.fixed is not None:
            return torch.full_like(rates[0], self.fixed)
        fastest, diffusion = rates[0].clamp_min(self.imposed_rate), rates[1].clamp_min(0.0)
        if body_force:  # (advection + body_force kappa dt) dt = cfl
            growth = 4.0 * abs(body_force) * self.along_force * self.cfl
            fastest = 0.5 * (fastest + (fastest * fastest + growth).sqrt())
        limits = torch.full_like(fastest, self.cfl) / fastest, torch.full_like(fastest, self.diffusion) / diffusion
        return torch.minimum(*limits).clamp_max(self.dt_max)

    def _limit(self, diffusion: float, allowed: float) -> str:
        """Which one it was; where nothing moves, "advection" does as well as any."""
        if self.fixed is not None:
            return "fixed"
        limits = {"dt_max": self.dt_max, "diffusion": self.diffusion / diffusion if diffusion > 0 else math.inf}
        return next((name for name, limit in limits.items() if limit <= allowed < math.inf), "advection")

    @fused
    def _rates(self, velocity: Components, nu_t: Tensor | None, nu: Tensor) -> Tensor:
        advection, diffusion = torch.zeros_like(self.kappa[0]), torch.zeros_like(self.kappa[0])
        for d, padded in enumerate(velocity):
            f = self.operators.inner(padded)
            advection = advection + (f - self.frame[d]).abs() * self.kappa[d]
            stiffness = 4.0 if d in self.operators.volume_axes else 1.0
            diffusion = diffusion + stiffness * self.kappa[d] ** 2
        explicit = nu if self.operators.volume_axes else 0.0 * nu
        if self.implicit:
            molecular = explicit * (diffusion - 4.0 * self.kappa[1] ** 2)
            total = molecular if nu_t is None else molecular + 2.0 * nu_t * diffusion
        else:
            total = explicit * diffusion if nu_t is None else (explicit + 2.0 * nu_t) * diffusion
        largest = self.operators.largest
        return torch.stack(torch.broadcast_tensors(largest(advection), largest(total)))
