"""Where slabs meet: the potential on both sides of each interface, from what each slab has at its ends.

Of a slab alone the potential in its first and its last cell is known, and how these answer to the cells beside the
slab. So what lies below an interface is one linear relation, ``below = alpha + rho above``, which is carried upward
from slab to slab; the values themselves follow downward: block elimination as for partitioned tridiagonal systems (Wang
1981, ACM Trans. Math. Softw. 7, 170). Each rank does so for its share of the columns: two numbers a slab and column
go there, and two come back, instead of all planes.

Of the one column whose solution is known but for a constant its rank has all cells, and solves it as a whole. With
them travels a sum over ranks that others have a use for.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from solver.discretisation.calculus import Operators
from solver.grid.axis import Array, FiniteVolumeAxis
from solver.parallel.slabs import split_evenly, starts


class Beside(NamedTuple):
    """What a slab is told.

    Parameters
    ----------
    beside : the potential in the cells just below and above it, two planes.
    mean : of the column that is solved as a whole its own cells and the one above, (planes + 1,) or of a batch
        (members, planes + 1).
    total : the sum over ranks, if there is one.
    """

    beside: Tensor
    mean: Tensor
    total: Tensor | None


class Interfaces:
    """Between the slabs of one grid, on two ranks and more.

    Parameters
    ----------
    operators : the discrete calculus.
    responses : of the first and the last cell of this slab to a potential of 1 in the cell below and above it, (4, cx,
        cz): first to below, first to above, last to below, last to above.
    column : which of the cx cz columns has no unique solution.
    """

    def __init__(self, operators: Operators, responses: Array, column: int) -> None:
        self.slabs = slabs = operators.decomposition
        line = operators.grid.volume_axes[1]
        self.goes_on = slabs.above is not None
        self.shape = responses.shape[1:]
        self.counts = split_evenly(int(np.prod(self.shape)), slabs.size)
        self.own = self.counts[slabs.rank]
        first = starts(self.counts)
        self.owner = max(rank for rank, begin in enumerate(first) if begin <= column)
        self.column, self.place = column, column - first[self.owner]
        blocks = torch.from_numpy(responses.reshape(4, -1)).split(self.counts, 1)
        received = slabs.exchange(blocks, [4 * self.own] * slabs.size)
        self.factors, self.rho = self._eliminated(torch.stack(received).view(slabs.size, 2, 2, 1, self.own))
        closed = self._closed() if line.periodic else None
        # until here in double precision: what long waves ask for is nearly singular
        self.factors, self.rho = (f.to(operators.device, operators.dtype) for f in (self.factors, self.rho))
        self.closed = None if closed is None else closed.to(operators.device, operators.dtype)
        self.whole = operators.tensor(_of_one_column(line, slabs.plane_counts)) if self.is_owner else None

    @property
    def is_owner(self) -> bool:
        """Whether this rank solves the column as a whole."""
        return self.slabs.rank == self.owner

    def _eliminated(self, responses: Tensor) -> tuple[Tensor, Tensor]:
        """The factors of the two sweeps, (6, slabs, 1, own columns), and rho of the last slab."""
        rho, factors = torch.zeros_like(responses[0, 0, 0]), []
        for (first_below, first_above), (last_below, last_above) in responses:
            rest = 1.0 - first_below * rho
            if self.is_owner:
                rest[..., self.place] = 1.0
            factors.append([first_below, last_below * rho / rest, last_below / rest, 1 / rest, first_above / rest, rho])
            rho = last_above + last_below * rho * first_above / rest
        return torch.stack([torch.stack(part) for part in zip(*factors, strict=True)]), rho

    def _sweep(self, ends: Tensor, entering: Tensor, leaving: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """From the ends (2, slabs, fields, columns), alone, to what is below and above each slab.

        Given are the cell below the first slab and the one above the last; answered is also what they would see there:
        the last cell of the last slab and the first of the first.
        """
        (first, last), (first_below, from_first, onward, held, back, rho) = ends, self.factors
        upward = [entering]
        for step, factor in zip(last + from_first * first, onward, strict=True):
            upward.append(torch.addcmul(step, factor, upward[-1]))
        alpha = torch.stack(upward[:-1])
        downward, steps = [leaving], held * (first + first_below * alpha)
        for step, factor in zip(steps.flip(0), back.flip(0), strict=True):
            downward.append(torch.addcmul(step, factor, downward[-1]))
        above = torch.stack(downward[::-1])
        return alpha + rho * above[:-1], above[1:], upward[-1] + self.rho * leaving, above[0]

    def _closed(self) -> Tensor:
        """Along a period what a last cell of 1 of the last slab, alone, and a first one of the first make of all."""
        one, zero = torch.ones_like(self.rho), torch.zeros_like(self.rho)
        none = torch.zeros_like(self.factors[:2])
        entering, leaving = self._sweep(none, one, zero), self._sweep(none, zero, one)
        a, b, c, d = 1.0 - entering[2], -leaving[2], -entering[3], 1.0 - leaving[3]
        determinant = a * d - b * c  # of what the two are, which is what they see
        if self.is_owner:
            determinant[..., self.place] = 1.0
        below, above = torch.stack(entering[:2]), torch.stack(leaving[:2])
        return torch.stack([d * below - c * above, a * above - b * below]) / determinant

    def _around(self, ends: Tensor) -> Tensor:
        """The cells below and above each slab, (2, slabs, fields, columns), from the ends of each alone."""
        zero = torch.zeros_like(ends[0, 0])
        below, above, last, first = self._sweep(ends, zero, zero)
        found = torch.stack([below, above])
        return found if self.closed is None else found + self.closed[0] * last + self.closed[1] * first

    def solve(self, ends: Tensor, f: Tensor, last: Tensor | None, share: Tensor | None) -> Beside:
        """From the ends of a slab alone, two planes, and the source there; see `solver.pressure.direct` (collective).

        `share` is a number, or of a batch one of each flow.
        """
        slabs, batch = self.slabs, ends.shape[:-3]
        rows = ends.movedim(-2, 0).reshape(2, -1, sum(self.counts))
        blocks: list[Tensor] = list(rows.split(self.counts, -1))
        known = self._of_column(f, last, share)
        blocks[self.owner] = torch.cat([blocks[self.owner].reshape(-1), known.reshape(-1)])
        fields, flows = rows.shape[1], known.numel() // known.shape[-1]
        here, more = 2 * fields * self.own, [flows * (planes + 2) for planes in slabs.plane_counts]
        received = slabs.exchange(blocks, [here + n * self.is_owner for n in more])
        around = self._around(torch.stack([r[:here].view(2, fields, -1) for r in received], 1))
        answers: list[Tensor] = list(around.unbind(1))
        if self.is_owner:
            columns = self._solved([r[here:].view(flows, -1) for r in received])
            answers = [torch.cat([a.reshape(-1), c.reshape(-1)]) for a, c in zip(answers, columns, strict=True)]
        sizes = [2 * fields * n for n in self.counts]
        sizes[self.owner] += known.numel()
        received = slabs.exchange(answers, sizes)
        parts = [r[: 2 * fields * n].view(2, fields, n) for r, n in zip(received, self.counts, strict=True)]
        beside = torch.cat(parts, -1).view(2, *batch, *self.shape).movedim(0, -2)
        told = received[self.owner][2 * fields * self.counts[self.owner] :].view(known.shape)
        return Beside(beside, told[..., :-1], None if share is None else told[..., -1].reshape(share.shape))

    def _of_column(self, f: Tensor, last: Tensor | None, share: Tensor | None) -> Tensor:
        """Its source on this rank, v at its upper end, and the share of a sum."""
        own = self._column(f)
        end = torch.zeros_like(own[..., :1]) if last is None else self._column(last)
        sent = torch.zeros_like(end) if share is None else share.reshape(end.shape)
        return torch.cat([own, end, sent], -1)

    def _column(self, f: Tensor) -> Tensor:
        """The column in a field; of complex coefficients the real part, for a mean has no other."""
        i, k = divmod(self.column, self.shape[1])
        return f[0, ..., i, :, k]

    def _solved(self, received: list[Tensor]) -> list[Tensor]:
        """What each rank is told of the column, and the sum."""
        assert self.whole is not None
        source = torch.cat([r[:, :-1] for r in received], -1)
        potential = source @ self.whole.T
        total = torch.stack([r[:, -1:] for r in received]).sum(0)
        parts = potential.split([planes + 1 for planes in self.slabs.plane_counts], -1)
        return [torch.cat([part, total], -1) for part in parts]

    def with_mean(self, f: Tensor, column: Tensor) -> Tensor:
        """`f` with what is known of the column in its place."""
        i, k = divmod(self.column, self.shape[1])
        f[..., i, :, k] = 0.0
        f[0, ..., i, :, k] = column
        return f


def _of_one_column(line: FiniteVolumeAxis, counts: list[int]) -> Array:
    """From the source of each slab and v at its upper end to the potential there and in the cell that follows."""
    n, ends = line.n, np.cumsum(counts)
    placed, following = np.zeros((n, n + len(counts))), []
    for rank, (count, end) in enumerate(zip(counts, ends, strict=True)):
        cells = np.arange(end - count, end)
        placed[cells, cells + rank] = 1.0
        above = end % n if line.periodic else min(end, n - 1)
        if end < n or line.periodic:
            placed[above, end + rank] = -1.0 / line.width[above]
        following += [*cells, above]
    values, q = line.laplacian
    values = np.where(values > -1e-12 * np.abs(values).max(), 0.0, values)
    inverse = np.where(values == 0.0, 0.0, 1.0 / np.where(values == 0.0, 1.0, values))
    root = np.sqrt(line.width)
    found: Array = (q / root[:, None])[following] @ (inverse[:, None] * (q.T * root) @ placed)
    return found
