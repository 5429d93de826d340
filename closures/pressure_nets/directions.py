"""Conjugate directions from a network: a pressure solver that stays on the device and falls back to multigrid."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from closures.pressure_nets.objective import REMEMBERED
from solver.errors import CaseError
from solver.pressure.multigrid import MultigridPressure
from solver.pressure.poisson import Poisson
from solver.pressure.report import PressureSolver, SolveReport, checked
from solver.pressure.scaled import solve_scaled

log = logging.getLogger("solver")
PATIENCE = 30  # iterations that should at least halve the residual


class Direction(Protocol):
    """Maps a flat residual of unit norm to a flat search direction of any length."""

    def __call__(self, residual: Tensor) -> Tensor:
        """The direction, zero outside the fluid; may live until the next call only; ghosts undefined."""
        ...


class NetworkDirection:
    """A network of this package on the cells of a problem, in single precision.

    The network sees the whole box: with several ranks each of them gathers the residual and evaluates it all, which
    costs no more than one rank's evaluation and saves the way back.

    Parameters
    ----------
    poisson : the problem; its cells should be cubes, as in training.
    network : `ConjugateDirectionNet` or `GeometryNet`.

    Raises
    ------
    CaseError : the numbers of cells are not multiples of what the network halves.
    """

    def __init__(self, poisson: Poisson, network: nn.Module) -> None:
        self.poisson, self.layout, self.slabs = poisson, poisson.layout, poisson.slabs
        shape = poisson.grid.shape
        coarsest = cast(int, network.coarsest)
        if any(n % coarsest for n in shape):
            raise CaseError(
                f"[pressure] a network that halves its grid needs multiples of {coarsest} cells, not {shape}: "
                "change [grid] n, or use solver = 'multigrid'"
            )
        self.network = network.to(self.layout.device).eval()
        solid = torch.from_numpy(poisson.solids.fluid).to(self.layout.device, torch.float32)
        self.fluid = solid[None, None].contiguous()
        self.periodic = tuple(axis.periodic for axis in poisson.grid.axes)

    @torch.no_grad()
    def __call__(self, residual: Tensor) -> Tensor:
        """See `Direction`."""
        whole = self._everywhere(self.layout.cells(residual).float())
        q = self.network(whole.transpose(0, 1)[None, None], self.fluid, self.periodic)[0, 0] * self.fluid[0, 0]
        flat = self.layout.zeros(self.poisson.dtype)
        planes = self.slabs.planes
        self.layout.cells(flat).copy_(q.transpose(0, 1)[planes])
        return self.poisson.centred(flat)

    def _everywhere(self, cells: Tensor) -> Tensor:
        """The cells (ny, nx, nz) of all ranks."""
        if self.slabs.size == 1:
            return cells
        whole = self.slabs.broadcast(self.slabs.gather_planes(cells.transpose(0, 1)))
        joined: Tensor = whole.transpose(0, 1).to(self.layout.device)
        return joined


class ConjugateDirections:
    """Line searches along learned directions, each conjugate to the last two; a `PressureSolver`.

    The algorithm of Kaneda et al. (2023, arXiv 2205.10763) with modified Gram-Schmidt, newest first (Lan et al. 2024,
    arXiv 2310.00177), and one product with the matrix an iteration instead of two. A direction that is not finite,
    has no curvature, or a residual that no longer falls, hands what is left to multigrid: counted in `interventions`.

    Parameters
    ----------
    poisson : the problem.
    direction : the network, see `NetworkDirection`.
    tolerance : relative residual at which to stop.
    max_iterations : of learned directions, before the rest goes to multigrid.
    """

    name = "dcdm"

    def __init__(
        self,
        poisson: Poisson,
        direction: Direction,
        tolerance: float = 1e-8,
        max_iterations: int = 200,
        make_fallback: Callable[[Poisson, float], PressureSolver] = MultigridPressure,
    ) -> None:
        self.poisson, self.direction, self.tolerance = poisson, direction, tolerance
        self.max_iterations, self.make_fallback = max_iterations, make_fallback
        self.fallback: PressureSolver | None = None
        self.interventions = 0

    def solve(self, rhs: Tensor, out: Tensor) -> SolveReport:
        """Overwrite the guess `out` (zeros for none) by phi, of zero mean over each part without outlet.

        Raises
        ------
        PressureSolveFailure : multigrid failed as well, or the source is not finite.
        """
        report = solve_scaled(self.poisson, rhs, out, self._iterate, self.tolerance)
        if report.converged or report.reason == "DIVERGED_NANORINF":
            return checked(self.name, report)
        return self._fall_back(rhs, out, report)

    def _iterate(self, r: Tensor, x: Tensor) -> tuple[str, int, float]:
        """`r` enters as the right-hand side and is overwritten by the residual, `x` by the solution."""
        layout, stencil = self.poisson.layout, self.poisson.stencil
        product = layout.zeros(self.poisson.dtype)
        stencil.apply(layout.exchange(x), product)
        residual = goal = self.poisson.layout.norm(r.sub_(product))
        memory: deque[tuple[Tensor, Tensor, float]] = deque(maxlen=REMEMBERED)
        since = 0
        for iteration in range(self.max_iterations + 1):
            if residual <= self.tolerance:
                return "CONVERGED_RTOL", iteration, residual
            if iteration == self.max_iterations or since > PATIENCE:
                break
            p = layout.zeros(self.poisson.dtype).copy_(self.direction(r / residual))
            for old, a_old, curvature in reversed(memory):
                p.sub_(old, alpha=self.poisson.layout.dot(p, a_old) / curvature)
            product = layout.zeros(self.poisson.dtype)
            curvature = float(layout.sum(stencil.apply(layout.exchange(p), product)))
            if not 0.0 < curvature < torch.inf:
                return "DIVERGED_DIRECTION", iteration, residual
            alpha = self.poisson.layout.dot(p, r) / curvature
            x.add_(p, alpha=alpha)
            residual = self.poisson.layout.norm(r.sub_(product, alpha=alpha))
            memory.append((p, product, curvature))
            goal, since = (residual, 0) if residual < 0.5 * goal else (goal, since + 1)
        return "DIVERGED_STALLED", iteration, residual

    def _fall_back(self, rhs: Tensor, out: Tensor, learned: SolveReport) -> SolveReport:
        """Multigrid from where the network left off."""
        self.interventions += 1
        if self.fallback is None:
            log.warning(
                "pressure solver '%s': %s after %d iterations at a residual of %.1e: multigrid goes on",
                self.name,
                learned.reason,
                learned.iterations,
                learned.residual,
            )
            self.fallback = self.make_fallback(self.poisson, self.tolerance)
        done = self.fallback.solve(rhs, out)
        seconds = learned.seconds + done.seconds
        return SolveReport(True, done.reason, learned.iterations + done.iterations, done.residual, seconds)
