"""What the filtered equations, as the solver discretises them, are left with on a trajectory of velocity fields.

Published forms of this loss write the equations down once more, for periodic boxes (`tests.losses.published`). Here
the residual is made of the solver's own parts, so that its zero is what the solver computes, on every grid it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from closures.algebraic.invariants import safe_sqrt
from closures.coupling.unrolled import Unrolled
from closures.losses.negative_norm import NegativeNorm
from closures.losses.relative_l2 import AT_REST
from closures.losses.teacher import check_frames, check_teacher
from closures.losses.time_residual import TimeScheme, check_length, combination, stencil
from solver.discretisation.calculus import Components
from solver.errors import CaseError
from solver.flow.simulation import Simulation

Norm = Literal["l2", "h_minus_1", "plane"]
NEAR = 1e-9


class LesResidual:
    """``du/dt - F(u)`` with F the solver's own slope, closure, forcing and pressure included; an acceleration.

    A trajectory is a sequence of coefficient fields, divergence-free and impermeable at walls as every velocity of the
    solver is: staggered components cannot be got back from cell centres without loss. `closures.coupling.frames` makes
    such trajectories of a network's answers. What they lack in divergence or mass flux is in the residual, as it is in
    `Flow.midpoint_residual`. The residuals of frames 0 .. N:

    ``central``, ``one_sided``: N + 1, at the frames, with the differences of `stencil`; second order in `interval`.
    ``midpoint``: N, of ``(u_n+1 - u_n) / interval - F((u_n + u_n+1) / 2)``; second order.
    ``runge_kutta``: N, of ``(u_n+1 - S(u_n)) / interval`` with S the solver's own steps: zero for the solver's own
    trajectories but for round-off. Every pair of neighbours counts in both, so no splitting into even and odd frames
    goes unseen.

    A closure that remembers (an eddy viscosity kept for some steps) starts afresh at every frame.

    Parameters
    ----------
    simulation : grid, closure, viscosity, forcing; on one rank, in a box without solids and open ends. Its velocity is
        neither used nor changed.
    interval : time between frames; for ``runge_kutta`` a multiple of the fixed step of `simulation`.
    scheme : of the time derivative.
    norm : ``l2``, or ``h_minus_1``, see `NegativeNorm`, which asks less of the smallest scales. With ``plane`` the
        relative residual is that of each plane between walls and each component, all of which count the same: a mean
        over the volume hardly sees the thin cells at a wall.
    alpha : 1/length^2, of that norm.

    Raises
    ------
    CaseError : the flow has parts for which there is no residual, each named.
    """

    def __init__(
        self,
        simulation: Simulation,
        interval: float,
        scheme: TimeScheme = "runge_kutta",
        norm: Norm = "l2",
        alpha: float = 1.0,
    ) -> None:
        check_teacher(simulation)
        self.simulation, self.interval, self.scheme = simulation, interval, scheme
        self.operators = simulation.operators
        self.by_plane = norm == "plane"
        self.negative_norm = NegativeNorm(self.operators, alpha) if norm == "h_minus_1" else None
        self.steps = self._steps() if scheme == "runge_kutta" else 0
        self.unrolled = Unrolled(simulation, self.steps) if self.steps else None

    def _steps(self) -> int:
        """Solver steps between two frames."""
        dt = self.simulation.control.fixed
        if dt is None:
            raise CaseError("[equations] scheme = 'runge_kutta': needs a fixed [time] dt, or another scheme")
        steps = round(self.interval / dt)
        if steps < 1 or abs(steps * dt - self.interval) > NEAR * self.interval:
            raise CaseError(f"[equations] interval = {self.interval:g}: should be a multiple of [time] dt = {dt:g}")
        return steps

    def __call__(self, frames: Sequence[Components], t: float = 0.0) -> list[Components]:
        """The residuals of a trajectory that begins at time `t`, each three coefficient fields, velocity/time.

        Raises
        ------
        CaseError : too few frames, or frames of another grid.
        """
        check_frames(self.operators, frames)
        check_length(len(frames), self.scheme)
        h, last = self.interval, len(frames) - 1
        if self.scheme == "runge_kutta":
            return [self._after_steps(frames[n], frames[n + 1], t + n * h) for n in range(last)]
        if self.scheme == "midpoint":
            halves = [combination(frames, {n: 0.5, n + 1: 0.5}) for n in range(last)]
            changes = [combination(frames, {n: -1.0, n + 1: 1.0}) for n in range(last)]
            pairs = zip(changes, halves, strict=True)
            return [self._balance(change, u, t + (n + 0.5) * h) for n, (change, u) in enumerate(pairs)]
        changes = [combination(frames, stencil(n, last + 1, self.scheme)) for n in range(last + 1)]
        return [self._balance(change, u, t + n * h) for n, (change, u) in enumerate(zip(changes, frames, strict=True))]

    def _after_steps(self, before: Components, after: Components, t: float) -> Components:
        """``(after - S(before)) / interval``."""
        assert self.unrolled is not None
        reached = self.unrolled(before, self.steps, t)
        u, v, w = ((a - b) / self.interval for a, b in zip(after, reached, strict=True))
        return u, v, w

    def _balance(self, change: Components, u: Components, t: float) -> Components:
        """``change / interval - F(u)``."""
        rate = self.rate(u, t)
        a, b, c = (s / self.interval - r for s, r in zip(change, rate, strict=True))
        return a, b, c

    def rate(self, u: Components, t: float = 0.0) -> Components:
        """``F(u)``: du/dt of the semi-discrete equations, the solver's own."""
        return self.simulation.flow.time_derivative(u, t)

    # -- norms ----------------------------------------------------------------------------------------------------

    def square(self, field: Components) -> Tensor:
        """Squared norm of a vector field: of its volume mean, so that it does not grow with the box."""
        if self.negative_norm is not None:
            return self.negative_norm.square(field)
        parts = [self.operators.inner_product(f, f, i) for i, f in enumerate(field)]
        return parts[0] + parts[1] + parts[2]

    def sizes(self, field: Components) -> Tensor:
        """Squared norms of the parts that count the same in `relative`: one, or by component and plane."""
        if not self.by_plane:
            return self.square(field).reshape(1, 1)
        modes = [0, *(1 + d for d in range(3) if d not in self.operators.volume_axes)]
        return torch.stack([(f * f * self.operators.mode_weight).sum(dim=modes).flatten() for f in field])

    def each(self, frames: Sequence[Components], t: float = 0.0) -> Tensor:
        """The norm of every residual, one an equation, velocity/time (times a length for ``h_minus_1``)."""
        return safe_sqrt(torch.stack([self.square(r) for r in self(frames, t)]))

    def dimensional(self, frames: Sequence[Components], t: float = 0.0) -> Tensor:
        """Root mean square over the residuals of a trajectory, a scalar in the units of `each`."""
        return safe_sqrt(torch.stack([self.square(r) for r in self(frames, t)]).mean())

    def relative(self, frames: Sequence[Components], t: float = 0.0) -> Tensor:
        """Root mean square over those of du/dt at the first frame, which no network moves; 1 for a frozen field."""
        with torch.no_grad():
            scale = self.sizes(self.rate(frames[0], t))
            at_rest = AT_REST * scale.amax(dim=1, keepdim=True)
            scale = torch.maximum(scale, at_rest).clamp_min(torch.finfo(scale.dtype).tiny)
        return safe_sqrt(torch.stack([self.sizes(r) / scale for r in self(frames, t)]).mean())

    # -- what it is the residual of --------------------------------------------------------------------------------
