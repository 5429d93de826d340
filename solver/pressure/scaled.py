"""What iterative pressure solvers do before and after they iterate."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from solver.pressure.poisson import Poisson
from solver.pressure.report import DRIFT, DRIFTED, SolveReport

Iterate = Callable[[Tensor, Tensor], tuple[str, int, float]]
CONVERGED = "CONVERGED_RTOL"
ROUND_OFF = "CONVERGED_ROUND_OFF"
USELESS = 1e-3  # relative residual that the rounding of a guess may leave


def solve_scaled(poisson: Poisson, rhs: Tensor, out: Tensor, iterate: Iterate, tolerance: float) -> SolveReport:
    """Overwrite the guess `out` by phi, of zero mean over each part without outlet, whether or not it converged.

    `iterate` receives the flat source, which it may overwrite, and the flat guess, which it turns into the solution;
    both are divided by the norm of the source, so that residuals stay clear of underflow. It returns reason,
    iterations and the relative residual it went by, which an iteration updates and rounding parts from the true one.
    The report has the true one. Where that misses `tolerance`, the iteration starts once more from where it ended.
    An iteration that ends without convergence at what rounding leaves of any solution has converged all the same.
    A guess whose own rounding hides the source, that of a flow which has come to rest, is not used.
    """
    start = time.perf_counter()
    layout, b = poisson.layout, poisson.source(rhs)
    norm, x = layout.norm(b), poisson.in_fluid(out)
    reason, iterations, residual = CONVERGED, 0, 0.0
    if not norm < torch.inf:
        reason, residual = "DIVERGED_NANORINF", norm
    elif norm > 0.0:
        b, x = b.div_(norm), x.div_(norm)
        if not rounding(poisson, x) <= USELESS:
            x.zero_()
        for _ in range(2):
            reason, more, _ = iterate(b.clone(), x)
            x, iterations = torch.where(poisson.volume > 0, x, 0.0), iterations + more
            residual = _residual(poisson, b, x)
            if reason != CONVERGED or residual <= tolerance:
                break
        if reason == CONVERGED and not residual <= DRIFT * tolerance:
            reason = f"{reason}{DRIFTED}"
        if reason != CONVERGED and residual <= max(tolerance, rounding(poisson, x)):
            reason = ROUND_OFF
    layout.unpack(poisson.centred(x.mul_(norm)), out)
    return SolveReport(reason in (CONVERGED, ROUND_OFF), reason, iterations, residual, time.perf_counter() - start)


def _residual(poisson: Poisson, b: Tensor, x: Tensor) -> float:
    """``|b - A x|`` over all ranks."""
    product = poisson.layout.zeros(poisson.dtype)
    poisson.stencil.apply(poisson.layout.exchange(x), product)
    return poisson.layout.norm(b - product)


def rounding(poisson: Poisson, x: Tensor) -> float:
    """The residual that rounding leaves of any solution near `x`, over all ranks: ``8 eps |A| |x|``.

    A row sums seven rounded products, and |A| is at most twice the largest entry of the diagonal.
    """
    largest = float(poisson.slabs.max(poisson.diagonal.max()))
    return 8.0 * torch.finfo(x.dtype).eps * 2.0 * largest * poisson.layout.norm(x)
