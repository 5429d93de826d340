"""What iterative pressure solvers do before and after they iterate."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from solver.pressure.poisson import Poisson
from solver.pressure.report import SolveReport

Iterate = Callable[[Tensor, Tensor], tuple[str, int, float]]
CONVERGED = "CONVERGED_RTOL"


def solve_scaled(poisson: Poisson, rhs: Tensor, out: Tensor, iterate: Iterate) -> SolveReport:
    """Overwrite the guess `out` by phi, of zero mean over each part without outlet, whether or not it converged.

    `iterate` receives the flat source, which it may overwrite, and the flat guess, which it turns into the solution;
    both are divided by the norm of the source, so that residuals stay clear of underflow in single precision. It
    returns reason, iterations and relative residual.
    """
    start = time.perf_counter()
    layout, b = poisson.layout, poisson.source(rhs)
    norm, x = layout.norm(b), poisson.in_fluid(out)
    reason, iterations, residual = CONVERGED, 0, 0.0
    if not norm < torch.inf:
        reason, residual = "DIVERGED_NANORINF", norm
    elif norm > 0.0:
        reason, iterations, residual = iterate(b.div_(norm), x.div_(norm))
    layout.unpack(poisson.centred(x.mul_(norm)), out)
    return SolveReport(reason == CONVERGED, reason, iterations, residual, time.perf_counter() - start)
