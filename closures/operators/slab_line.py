"""The part of a direction that one rank has, for operators that are evaluated slab by slab.

What a line tells of its points the whole line tells: an operator that reads its geometry from the domain, and its
neighbours by the domain's derivatives or within `reach` planes, answers as on the whole field. Between walls a
derivative asks for a few planes of the ranks beside; along a period it reads all, and whole columns are brought to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from closures.operators.domain import Domain, Line
from solver.parallel.slabs import starts


class Neighbours(Protocol):
    """What ranks bring one another; collective, of fields whose dimension -2 is y."""

    def beside(self, f: Tensor, planes: int) -> Tensor:
        """`f` with so many planes of the ranks below and above, where there are any."""
        ...

    def joined(self, f: Tensor) -> Tensor:
        """The whole of `f` on every rank; for small ones."""
        ...

    def across(self, f: Tensor, action: Callable[[Tensor], Tensor], planes: int) -> Tensor:
        """What `action`, which leaves x alone, makes of fields of whole columns of so many planes across slabs."""
        ...

    def total(self, value: Tensor) -> Tensor:
        """The sum over all ranks."""
        ...


@dataclass(frozen=True, eq=False, kw_only=True)
class SlabLine(Line):
    """Neighbouring points of a line between walls.

    Parameters
    ----------
    whole : the line.
    own : the range of its points that are this rank's.
    cuts : where the slabs of the other ranks begin, but the first.
    reach : planes beyond its own that the fields of this rank carry, as far as there are any.
    neighbours : of this rank.
    """

    whole: Line
    own: range
    cuts: tuple[int, ...]
    reach: int
    neighbours: Neighbours

    @classmethod
    def cut(cls, whole: Line, own: range, cuts: Sequence[int], reach: int, neighbours: Neighbours) -> SlabLine:
        """The points of `own` and `reach` more on either side."""
        here = slice(max(own.start - reach, 0), min(own.stop + reach, whole.n))
        return cls(
            whole.points[here],
            whole.weights[here],
            whole.length,
            whole.periodic,
            whole.start,
            whole=whole,
            own=own,
            cuts=tuple(cuts),
            reach=reach,
            neighbours=neighbours,
        )

    @property
    def carried(self) -> range:
        """Points of the whole line that are here."""
        return range(max(self.own.start - self.reach, 0), min(self.own.stop + self.reach, self.whole.n))

    @property
    def complete(self) -> Line:
        """The whole line."""
        return self.whole

    @cached_property
    def within(self) -> int:
        """Of the whole line."""
        return self.whole.within

    @cached_property
    def is_spectral(self) -> bool:
        """Never: a wave is not known from a part of it."""
        return False

    @property
    def walls(self) -> tuple[int, int]:
        """1 where the line ends, 0 where another rank goes on."""
        return int(self.carried.start == 0), int(self.carried.stop == self.whole.n)

    def polynomials(self, count: int) -> Tensor:
        """Those of the whole line at these points."""
        known: dict[int, Tensor] = self.__dict__.setdefault("_polynomials", {})
        if count not in known:
            known[count] = self.whole.polynomials(count)[self.carried.start : self.carried.stop]
        return known[count]

    @cached_property
    def span(self) -> int:
        """Planes that derivatives read beyond those that are carried, on the rank where these are most."""
        return span(self.whole, self.cuts, self.reach)

    @cached_property
    def derivative(self) -> Tensor:
        """The matrix of ``d/dx`` at these points from those of `extended`, float64, on the processor."""
        first, last = max(self.carried.start - self.span, 0), min(self.carried.stop + self.span, self.whole.n)
        return self.whole.derivative[self.carried.start : self.carried.stop, first:last].contiguous()

    def extended(self, f: Tensor) -> Tensor:
        """`f` with the planes of other ranks that `derivative` reads (collective)."""
        own = f.narrow(-2, self.own.start - self.carried.start, len(self.own))
        return self.neighbours.beside(own, self.reach + self.span)

    @cached_property
    def complete_here(self) -> Line:
        """The whole line, with tensors where those of this part are."""
        return self.whole.to(self.points.device, self.points.dtype)

    def columns(self, f: Tensor, action: Callable[[Tensor], Tensor]) -> Tensor:
        """What `action` makes of the field at all points of the line (collective); without planes of other ranks."""
        return self.neighbours.across(f, action, self.whole.n)

    def joined(self, rows: Tensor) -> Tensor:
        """Of (rows, own points) on every rank those at all points (collective)."""
        return self.neighbours.joined(rows[:, None, :, None])[:, 0, :, 0]

    def total(self, value: Tensor) -> Tensor:
        """Over all ranks (collective)."""
        return self.neighbours.total(value)

    def cut_out(self, f: Tensor) -> Tensor:
        """The planes that are carried."""
        return f.narrow(-2, self.carried.start, len(self.carried))

    @cached_property
    def with_ends(self) -> SlabLine:
        """Likewise a part of the whole line with its ends."""
        lower, upper = int(self.own.start == 0), int(self.own.stop == self.whole.n)
        own = range(self.own.start + 1 - lower, self.own.stop + 1 + upper)
        cuts = [cut + 1 for cut in self.cuts]
        part = SlabLine.cut(self.whole.with_ends, own, cuts, self.reach, self.neighbours)
        return part.to(self.points.device, self.points.dtype)

    def to(self, device: torch.device, dtype: torch.dtype) -> SlabLine:
        """The same points with their tensors there."""
        points, weights = (t.to(device, dtype) for t in (self.points, self.weights))
        return replace(self, points=points, weights=weights)


@dataclass(frozen=True, eq=False, kw_only=True)
class PeriodSlab(Line):
    """Neighbouring points of a period.

    Parameters
    ----------
    whole : the period.
    own : the range of its points that are this rank's.
    reach : planes beyond its own that the fields of this rank carry on either side.
    neighbours : of this rank.
    """

    whole: Line
    own: range
    reach: int
    neighbours: Neighbours

    @classmethod
    def cut(cls, whole: Line, own: range, reach: int, neighbours: Neighbours) -> PeriodSlab:
        """The points of `own` and `reach` more on either side."""
        here = torch.arange(own.start - reach, own.stop + reach) % whole.n
        return cls(
            whole.points[here],
            whole.weights[here],
            whole.length,
            whole.periodic,
            whole.start,
            whole=whole,
            own=own,
            reach=reach,
            neighbours=neighbours,
        )

    @property
    def complete(self) -> Line:
        """The period."""
        return self.whole

    @cached_property
    def is_spectral(self) -> bool:
        """As the period: its waves are met in `across`."""
        return self.whole.is_spectral

    @property
    def derivative(self) -> Tensor:
        """That of the period, for fields in `across`."""
        return self.whole.derivative

    @property
    def half_shift(self) -> Tensor:
        """That of the period, for fields in `across`."""
        return self.whole.half_shift

    def across(self, f: Tensor, action: Callable[[Tensor], Tensor]) -> Tensor:
        """What `action` makes of the field at all points of the period (collective)."""
        changed = self.columns(f.narrow(-2, self.reach, len(self.own)), action)
        return self.neighbours.beside(changed, self.reach) if self.reach else changed

    @cached_property
    def complete_here(self) -> Line:
        """The period, with tensors where those of this part are."""
        return self.whole.to(self.points.device, self.points.dtype)

    def columns(self, f: Tensor, action: Callable[[Tensor], Tensor]) -> Tensor:
        """What `action` makes of the field at all points of the period (collective); without planes of other ranks."""
        return self.neighbours.across(f, action, self.whole.n)

    def cut_out(self, f: Tensor) -> Tensor:
        """The planes of this rank, and those around it."""
        carried = torch.arange(self.own.start - self.reach, self.own.stop + self.reach) % self.whole.n
        return f.index_select(-2, carried.to(f.device))

    def total(self, value: Tensor) -> Tensor:
        """Over all ranks (collective)."""
        return self.neighbours.total(value)

    def to(self, device: torch.device, dtype: torch.dtype) -> PeriodSlab:
        """The same points with their tensors there."""
        points, weights = (t.to(device, dtype) for t in (self.points, self.weights))
        return replace(self, points=points, weights=weights)


def span(line: Line, cuts: Sequence[int], reach: int) -> int:
    """Planes that derivatives along `line` read at most beyond slabs that begin at `cuts` and carry `reach` more."""
    reads, found = line.derivative != 0, [1]
    for cut in cuts:
        lower, upper = max(cut - reach, 0), min(cut + reach, line.n)
        above, below = reads[:upper, upper:].any(0).nonzero(), reads[lower:, :lower].any(0).nonzero()
        found += [int(above.max()) + 1] if len(above) else []
        found += [lower - int(below.min())] if len(below) else []
    return max(found)


def can_be_cut(line: Line, counts: Sequence[int], reach: int) -> bool:
    """Whether each slab, of so many planes, has all that its neighbours read."""
    if line.periodic:
        return reach <= min(counts)
    cuts = starts(counts)[1:]
    read = max(span(line, cuts, reach), span(line.with_ends, [cut + 1 for cut in cuts], reach))
    return reach + read <= min(counts)


def slab_of(domain: Domain, counts: Sequence[int], rank: int, reach: int, neighbours: Neighbours) -> Domain:
    """The part of `domain` that a rank has, of slabs with so many planes each, and `reach` planes around it."""
    begin = starts(counts)
    own = range(begin[rank], begin[rank] + counts[rank])
    if domain.y.periodic:
        return replace(domain, y=PeriodSlab.cut(domain.y, own, reach, neighbours))
    return replace(domain, y=SlabLine.cut(domain.y, own, begin[1:], reach, neighbours))
