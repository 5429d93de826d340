"""How fast a run was: seconds a step and a point, its parts, and the distance to the limit of the transforms."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from solver.discretisation.calculus import Operators
from solver.discretisation.timers import closure_fraction, step_seconds
from solver.flow.runge_kutta import RK3
from solver.flow.simulation import Simulation
from solver.run.limit import fft_limit
from solver.run.speed import memory_mib

log = logging.getLogger("solver")


def performance(simulation: Simulation, steps: int) -> dict[str, Any]:
    """The timings of ``summary.json``: those of the `steps` that the timers have seen; NaN where there was none.

    Compiling and observing are no part of a step: the parts of ``milliseconds_per_step`` that do not observe add up to
    ``seconds_per_step``.
    """
    op, seconds, memory = simulation.operators, simulation.timers.seconds, memory_mib()
    per_step = step_seconds(seconds) / steps if steps else float("nan")
    stage = per_step / RK3.stages
    return {
        "memory_mib": memory,  # before the transforms below take theirs
        "seconds_per_step": per_step,
        "ns_per_point_per_stage": stage / int(np.prod(op.grid.shape)) * 1e9,
        "fft_limit_ratio": stage / measured_limit(op),
        "closure_fraction": closure_fraction(seconds),
        "milliseconds_per_step": {part: 1e3 * spent / max(steps, 1) for part, spent in sorted(seconds.items())},
    }


def measured_limit(operators: Operators) -> float:
    """`fft_limit`; nan where its fields do not fit into memory any more: no run is lost to its own timing."""
    try:
        return fft_limit(operators)
    except (MemoryError, torch.OutOfMemoryError):
        log.warning("x the FFT limit is not measured: no memory is left for its fields")
        return float("nan")


def in_words(summary: Mapping[str, Any]) -> str:
    """The timings of a summary in one line."""
    compiling = summary["compile_seconds"]
    once = f" ({compiling:.1f} s of it compiling kernels, once)" if compiling > 0 else ""
    words = (
        f"{summary['status']}: {summary['steps']} steps to t = {summary['time']:.5g} "
        f"in {summary['wall_seconds']:.1f} s{once}"
    )
    if not np.isfinite(summary["seconds_per_step"]):
        return words
    words += f"; {1e3 * summary['seconds_per_step']:.3g} ms a step, "
    words += f"{summary['ns_per_point_per_stage']:.0f} ns a point and stage"
    limit = summary["fft_limit_ratio"]
    return f"{words}, {limit:.2f} x the FFT limit" if np.isfinite(limit) else words
