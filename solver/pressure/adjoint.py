"""Pressure solves that gradients pass through: the adjoint of a solve is a solve."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from solver.pressure.report import PressureSolver, SolveReport


def solve(solver: PressureSolver, rhs: Tensor, guess: Tensor, volume: Tensor) -> tuple[Tensor, SolveReport]:
    """The solution for `rhs`, differentiable in it to the solver's tolerance; `guess` is used up.

    `volume` holds those of the cells, zero in solids. Multiplied by it the equation is symmetric: a gradient g of the
    solution becomes ``volume * solve(g / volume)`` of the source.
    """
    reports: list[SolveReport] = []
    solution = _Solve.apply(rhs, guess, solver, volume, reports)  # type: ignore[no-untyped-call]  # torch's
    return solution, reports[0]


class _Solve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rhs: Tensor, guess: Tensor, solver: PressureSolver, volume: Tensor, reports: list[SolveReport]
    ) -> Tensor:
        ctx.solver, ctx.volume = solver, volume
        reports.append(solver.solve(rhs, guess))
        ctx.mark_dirty(guess)
        return guess

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        inverse = torch.where(ctx.volume > 0, 1.0 / torch.where(ctx.volume > 0, ctx.volume, 1.0), 0.0)
        adjoint = torch.zeros_like(gradient)
        ctx.solver.solve(gradient * inverse, adjoint)
        return adjoint * ctx.volume, None, None, None, None
