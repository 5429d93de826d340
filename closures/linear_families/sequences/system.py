"""What a solver is given and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from scipy.sparse import csr_array

from solver.errors import SolverError

Apply = Callable[[np.ndarray], np.ndarray]


class LinearSolveError(SolverError):
    """A linear system was not solved to its tolerance; the message names the method, the system and the residual."""

    exit_code = 3


class Operator(Protocol):
    """Anything with a matrix-vector product."""

    def __matmul__(self, x: Any, /) -> Any: ...


@dataclass(frozen=True)
class System:
    """One linear system of a sequence.

    Attributes
    ----------
    matrix : symmetric sparse matrix. Systems that share one matrix share the object: it is factorised once.
    rhs : right-hand side, ``(size,)``.
    definite : whether the matrix is positive definite.
    nearby : applies the exact inverse of a similar operator that fast transforms diagonalise, if there is one.
    """

    matrix: csr_array
    rhs: np.ndarray
    definite: bool = True
    nearby: Apply | None = None


@dataclass(frozen=True)
class Solution:
    """A solution and how it was found.

    Attributes
    ----------
    x : ``(size,)``.
    converged : whether the true residual is below the tolerance.
    iterations : Krylov steps, that is new directions; 0 for a direct solve.
    products : products with the matrix, those that prepare a recycled space included.
    residual : true relative residual ``|b - A x| / |b|``, computed afresh at the end.
    history : estimates of the relative residual, one a step.
    """

    x: np.ndarray
    converged: bool
    iterations: int
    products: int
    residual: float
    history: tuple[float, ...] = field(default=(), repr=False)


def solution(
    a: Operator, b: np.ndarray, x: np.ndarray, tolerance: float, iterations: int, products: int, history: list[float]
) -> Solution:
    """Judge `x` by its true residual; round-off of the recurrences is allowed for by one per cent."""
    size = float(np.linalg.norm(b))
    residual = float(np.linalg.norm(b - a @ x)) / size if size > 0 else 0.0
    return Solution(x, residual <= 1.01 * tolerance, iterations, products + 1, residual, tuple(history))
