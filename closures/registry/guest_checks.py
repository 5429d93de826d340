"""What a closure of another package has to be and to answer; whatever is wrong is one line that names it."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from solver.case.plugins import Origin
from solver.discretisation.calculus import Operators
from solver.errors import SolverError
from solver.flow.closure import Corrector, EddyViscosity, State, SubgridForce, SubgridStress, Surrogate

FIELDS = {EddyViscosity: ("nu_t", 1), SubgridStress: ("tau", 6), SubgridForce: ("force", 3)}


class ClosureError(SolverError):
    """A closure of another package failed, or its answer cannot be used; the line names both and what was expected."""


class Checks:
    """What is asked of the closure that came from `origin`, by a table of the case; all raise ClosureError."""

    def __init__(self, origin: Origin, table: str = "[closure]") -> None:
        self.origin, self.table = origin, table

    def problem(self, what: str) -> ClosureError:
        """An error in the name of the closure."""
        return ClosureError(f"{self.table} {self.origin} {what}")

    def interface(self, closure: Any) -> None:
        """Whether it has what `solver.flow.closure` asks of it."""
        reach = getattr(closure, "reach", None)
        if not isinstance(getattr(closure, "name", None), str):
            raise self.problem(f"makes {_kind(closure)} without a name: a closure has name, reach, init and __call__")
        if reach != "global" and not (isinstance(reach, int) and not isinstance(reach, bool) and reach >= 0):
            raise self.problem(f"has reach = {reach!r}: should be a number of planes, or 'global'")
        if not callable(getattr(closure, "init", None)) or not callable(closure):
            raise self.problem("lacks init(operators) or __call__(velocity, t, state)")
        for method, role in (("correct", Corrector), ("advance", Surrogate)):
            if hasattr(closure, method) and not isinstance(closure, role):
                needed = "facts, wait(t)" + (" or span" if method == "advance" else "")
                raise self.problem(f"has {method}() but lacks {needed}: see solver.flow.closure.{role.__name__}")

    def pair(self, answer: Any, method: str) -> tuple[Any, State]:
        """An answer and the state beside it."""
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise self.problem(f"gives {_kind(answer)} as the answer of {method}, expected a pair with the next state")
        return answer[0], self.state(answer[1], method)

    def state(self, state: Any, method: str) -> State:
        """A dictionary of tensors."""
        if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
            raise self.problem(f"gives {_kind(state)} as the state of {method}, expected a dictionary of tensors")
        return state

    def term(self, term: Any, operators: Operators, first: bool) -> None:
        """A subgrid term of this rank, or None."""
        if term is None:
            return
        if type(term) not in FIELDS:
            kinds = ", ".join(kind.__name__ for kind in FIELDS)
            raise self.problem(f"gives {_kind(term)} as its term, expected one of {kinds}, or None")
        attribute, count = FIELDS[type(term)]
        value = getattr(term, attribute)
        fields = [value] if count == 1 else list(value)
        what = f"{type(term).__name__}.{attribute}"
        if len(fields) != count:
            raise self.problem(f"gives {len(fields)} fields as {what}, expected {count}")
        shape = operators.local_shape
        self.fields(fields, [shape] * count, f"{shape} = (nx, local ny, nz)", what, operators, first)

    def fields(
        self,
        fields: Sequence[Any],
        shapes: Sequence[tuple[int, ...]],
        expected: str,
        what: str,
        operators: Operators,
        first: bool,
    ) -> None:
        """Tensors of these shapes, of the solver's precision and device; finite at the `first` call."""
        for field, shape in zip(fields, shapes, strict=True):
            if not isinstance(field, Tensor):
                raise self.problem(f"gives {_kind(field)} as {what}, expected a tensor")
            if tuple(field.shape) != shape:
                raise self.problem(f"gives the shape {tuple(field.shape)} as {what}, expected {expected}")
            if field.dtype != operators.dtype or field.device.type != operators.device.type:
                own = f"{operators.dtype} on {operators.device}"
                raise self.problem(f"gives {field.dtype} on {field.device} as {what}, expected {own}")
            if first and not bool(torch.isfinite(field).all()):
                raise self.problem(f"gives {what} that is not finite at its first call")

    @contextmanager
    def named(self, method: str) -> Iterator[None]:
        """A failure becomes one line with the place in the closure's own code; what is said on purpose passes."""
        try:
            yield
        except (SolverError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            raise self.problem(f"failed in {method}: {reason}{self._place(error)}") from error

    def _place(self, error: Exception) -> str:
        """The deepest line of its own package in a traceback."""
        spec = find_spec(self.origin.value.partition(":")[0].partition(".")[0])
        places = spec and (spec.submodule_search_locations or (spec.origin and [spec.origin]))
        homes = [Path(place) for place in places or ()]
        frames = traceback.extract_tb(error.__traceback__)
        lines = [x for x in frames if any(Path(x.filename).is_relative_to(home) for home in homes)]
        return f" ({lines[-1].filename}, line {lines[-1].lineno})" if lines else ""


def _kind(value: Any) -> str:
    """What something is, for messages."""
    return "None" if value is None else f"an object of type {type(value).__name__}"
