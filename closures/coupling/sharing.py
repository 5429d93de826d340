"""Who evaluates a network that changes a velocity: rank 0 on the whole field, or every rank on its own planes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol, TypeVar

import torch
from torch import Tensor

from closures.coupling.guard import Overruled, attempted
from closures.operators.domain import Domain
from closures.operators.slab_line import can_be_cut, slab_of
from solver.parallel.slabs import Slabs

T = TypeVar("T")
ELSEWHERE = "it failed: on another rank"


class Sharing(Protocol):
    """A way of sharing the work; every method is collective.

    Attributes
    ----------
    acts : whether this rank evaluates the network.
    own, asked : the points that it answers for, and those of the field that it is shown.
    """

    acts: bool
    own: Domain
    asked: Domain

    def inward(self, u: Tensor, sent: torch.dtype) -> Tensor | None:
        """Of this rank's planes (3, nx, local ny, nz) the field at the points `own`; None on a rank that has none.

        What is sent is sent as numbers of that type.
        """
        ...

    def surrounded(self, u: Tensor) -> Tensor:
        """The field at the points `asked`, of that at `own`."""
        ...

    def inner(self, answer: Tensor) -> Tensor:
        """The reverse."""
        ...

    def outward(self, change: Tensor | None) -> Tensor:
        """This rank's planes of a field at the points `own`."""
        ...

    def total(self, value: Tensor) -> Tensor:
        """The sum over all points, of that over `own`."""
        ...

    def verdict(self, action: Callable[[], T]) -> tuple[T | None, str | None]:
        """What `action` gives where it acts, and why it may not be used: the same reason on every rank."""
        ...


class OnOwner:
    """Rank 0 alone, on the whole field."""

    def __init__(self, slabs: Slabs, domain: Domain) -> None:
        self.slabs, self.own, self.asked, self.acts = slabs, domain, domain, slabs.is_root

    def inward(self, u: Tensor, sent: torch.dtype) -> Tensor | None:
        """The whole field on rank 0."""
        return u if self.slabs.size == 1 else self.slabs.gather_planes(u.to(sent))

    def surrounded(self, u: Tensor) -> Tensor:
        """All there is."""
        return u

    def inner(self, answer: Tensor) -> Tensor:
        """All there is."""
        return answer

    def outward(self, change: Tensor | None) -> Tensor:
        """From rank 0."""
        own = change if self.slabs.size == 1 else self.slabs.scatter_planes(change)
        assert own is not None
        return own

    def total(self, value: Tensor) -> Tensor:
        """That is all."""
        return value

    def verdict(self, action: Callable[[], T]) -> tuple[T | None, str | None]:
        """That of rank 0."""
        answer, reason = attempted(action) if self.acts else (None, None)
        return answer, self.slabs.broadcast(reason)


def _sendable(f: Tensor) -> Tensor:
    """In a type that ranks exchange: numbers in half precision are sent in single."""
    return f.float() if f.dtype in (torch.bfloat16, torch.float16) else f


class _FailedElsewhere(Overruled):
    """Another rank will not come."""


class BySlabs:
    """Every rank, on its own planes and those of its neighbours that the network reads.

    A rank on which something fails would leave the others waiting for its planes. So whatever ranks do together begins
    with the question whether all have come that far; one that has failed says so there, whatever the others ask for.
    """

    acts = True

    def __init__(self, slabs: Slabs, domain: Domain, reach: int) -> None:
        self.slabs, self.reach, self.is_over = slabs, reach, False
        self.domain, self._columns = domain, dict[int, Slabs]()
        self.own = slab_of(domain, slabs.plane_counts, slabs.rank, 0, self)
        self.asked = slab_of(domain, slabs.plane_counts, slabs.rank, reach, self) if reach else self.own

    def inward(self, u: Tensor, sent: torch.dtype) -> Tensor | None:
        """They are here."""
        return u

    def surrounded(self, u: Tensor) -> Tensor:
        """With the planes around it."""
        return self.beside(u, self.reach) if self.reach else u

    def inner(self, answer: Tensor) -> Tensor:
        """Without them."""
        return answer.narrow(-2, 0 if self.slabs.below is None else self.reach, self.slabs.local_ny)

    def outward(self, change: Tensor | None) -> Tensor:
        """They are here."""
        assert change is not None
        return change

    def total(self, value: Tensor) -> Tensor:
        """Over all ranks."""
        self._meet()
        return self.slabs.sum(_sendable(value)).to(value.dtype)

    def beside(self, f: Tensor, planes: int) -> Tensor:
        """See `closures.operators.slab_line.Neighbours`."""
        self._meet()
        below, above = self.slabs.halo(_sendable(f), planes)
        return torch.cat([part.to(f.dtype) for part in (below, f, above) if part is not None], dim=-2)

    def joined(self, f: Tensor) -> Tensor:
        """See `closures.operators.slab_line.Neighbours`."""
        self._meet()
        return self.slabs.all_planes(_sendable(f), self.slabs.plane_counts).to(f.dtype)

    def across(self, f: Tensor, action: Callable[[Tensor], Tensor], planes: int) -> Tensor:
        """See `closures.operators.slab_line.Neighbours`; the planes are those of the domain, or with its walls."""
        self._meet()
        columns = self._columns.get(planes) or self._columns.setdefault(planes, self._with(planes))
        changed = action(columns.to_modes(_sendable(f)).to(f.dtype))
        return columns.to_planes(_sendable(changed)).to(changed.dtype)

    def _with(self, planes: int) -> Slabs:
        """The slabs, of which the first and the last have a wall as well if there are more planes."""
        columns = Slabs(planes, self.domain.x.n, self.domain.y.periodic, self.slabs.communicator)
        columns.plane_counts = list(self.slabs.plane_counts)
        for end in (0, -1) if planes > self.domain.y.n else ():
            columns.plane_counts[end] += 1
        return columns

    def _meet(self) -> None:
        if self.slabs.agree(False):
            self.is_over = True
            raise _FailedElsewhere(ELSEWHERE)

    def verdict(self, action: Callable[[], T]) -> tuple[T | None, str | None]:
        """Of all: what one cannot use nobody does."""
        self.is_over = False
        answer, reason = attempted(action)
        if not self.is_over and not self.slabs.agree(reason is not None):
            return answer, None
        return None, self.slabs.broadcast(reason or ELSEWHERE)


def shared(slabs: Slabs, domain: Domain, reach: int | Literal["global"]) -> Sharing:
    """By slabs, where a network reads `reach` planes besides derivatives and all slabs are as thick as what is read.

    And as many as there are points along x at the most, which whole columns are shared by.
    """
    if isinstance(reach, int) and 1 < slabs.size <= domain.x.n and can_be_cut(domain.y, slabs.plane_counts, reach):
        return BySlabs(slabs, domain, reach)
    return OnOwner(slabs, domain)
