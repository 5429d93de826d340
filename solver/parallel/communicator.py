"""What ranks say to one another, and how gradients pass between them.

The derivative of what is said goes the other way: that of a sum is a sum, that of a halo goes back to its owner, that
of a transpose is the reverse transpose. Each rank differentiates by what it has itself. The gradients are those of the
sum of what all ranks call ``backward`` on: a loss that is the same on all of them counts as often as there are ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mpi4py import MPI
from torch import Tensor
from torch.autograd.function import once_differentiable

from solver.errors import CaseError
from solver.parallel.engines import Engine, Mpi

Said = Callable[..., Sequence[Any]]  # of tensors, or None where nothing is heard


class Communicator:
    """The ranks that share a flow, and the engine by which they do.

    Parameters
    ----------
    comm : the ranks, the world by default.
    engine : MPI through the memory of the host by default, see `solver.parallel.engines.choose`.

    Attributes
    ----------
    link : while gradients are recorded, what the next thing said has from the one before; else None.
    """

    def __init__(self, comm: MPI.Intracomm | None = None, engine: Engine | None = None) -> None:
        self.comm = comm if comm is not None else MPI.COMM_WORLD
        self.rank, self.size = self.comm.rank, self.comm.size
        self.engine = engine if engine is not None else Mpi(self.comm)
        self.link: Tensor | None = None

    def say(self, ask: Said, answer: Said, *fields: Tensor | None) -> list[Any]:
        """What `ask` makes of fields together with those of the others; `answer` is its adjoint (collective).

        Raises
        ------
        CaseError : a gradient is recorded, and would end here without a word.
        """
        if self.link is not None and torch.is_grad_enabled():
            found: list[Any]
            self.link, *found = _Said.apply(self.link, ask, answer, *fields)  # type: ignore[no-untyped-call]  # torch's
            return found
        for f in fields:
            refuse_gradient(f)
        return list(ask(*fields))

    @contextmanager
    def recording(self, device: torch.device) -> Iterator[None]:
        """Within, gradients pass between the ranks of fields on `device`; on one there is nothing to do.

        What is differentiated, on every rank, has to depend on the last thing that was said.
        """
        with self.tied(torch.zeros((), device=device, requires_grad=True) if self.size > 1 else None):
            yield

    @contextmanager
    def tied(self, link: Tensor | None) -> Iterator[None]:
        """Within, what is said follows what gave that `link`: for what is computed again in a backward pass."""
        self.link, before = link, self.link
        try:
            yield
        finally:
            self.link = before


class _Said(torch.autograd.Function):
    """One thing said, tied to the one before and to the next.

    Else a rank that has no use for what it hears, or whose fields have no gradient, would not take part in the backward
    pass, and the others would wait. All begin with what was saved, so that where a segment of steps is computed again
    (`torch.utils.checkpoint`) all do so at the same moment, up to the last thing said in it.
    """

    @staticmethod
    def forward(ctx: Any, link: Tensor, ask: Said, answer: Said, *fields: Tensor | None) -> tuple[Tensor | None, ...]:
        ctx.answer = answer
        ctx.save_for_backward(link.new_empty(0))
        return link.clone(), *ask(*fields)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, link: Tensor, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        _ = ctx.saved_tensors
        return link, None, None, *ctx.answer(*gradients)


def refuse_gradient(f: Tensor | None) -> None:
    """Raises CaseError if a gradient is recorded, and would end here without a word."""
    if f is not None and torch.is_grad_enabled() and f.requires_grad:
        raise CaseError(
            "gradients do not pass between ranks here: record them within Communicator.recording(), differentiate on "
            "one rank (without mpirun), or use torch.no_grad()"
        )
