"""Who owns what: y-slabs, x-mode slabs, the transpose between them, halo planes, reductions.

Physical and coefficient fields are y-slabs (x and z complete on a rank). Fourier transforms in y, and implicit
diffusion along it, happen on x-mode slabs (y complete). Every method is collective.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from mpi4py import MPI
from torch import Tensor

from solver.errors import CaseError
from solver.parallel.communicator import Communicator, refuse_gradient
from solver.parallel.engines import Pair


def split_evenly(n: int, parts: int) -> list[int]:
    """Sizes of `parts` contiguous shares of `n`, differing by at most one.

    Examples
    --------
    >>> split_evenly(11, 3)
    [4, 4, 3]
    """
    return [n // parts + (r < n % parts) for r in range(parts)]


def starts(counts: Sequence[int]) -> list[int]:
    """Where each of contiguous shares begins."""
    return [sum(counts[:r]) for r in range(len(counts))]


class Slabs:
    """Slabs of a ``(nx, ny, nz)`` grid over the ranks of a communicator.

    Parameters
    ----------
    ny : global planes in y.
    modes_x : length of the x direction in coefficient space.
    periodic_y : whether the first and last slab are neighbours.
    comm : the ranks, the world by default; or with the engine by which they talk.

    Raises
    ------
    CaseError : more ranks than y planes; than x modes, where these are asked for.
    """

    def __init__(
        self, ny: int, modes_x: int, periodic_y: bool, comm: MPI.Intracomm | Communicator | None = None
    ) -> None:
        self.communicator = comm if isinstance(comm, Communicator) else Communicator(comm)
        self.comm, self.engine = self.communicator.comm, self.communicator.engine
        self.rank, self.size = self.comm.rank, self.comm.size
        self.ny, self.modes_x, self.periodic_y = ny, modes_x, periodic_y
        self.plane_counts = self._shares(ny, "planes in y")

    def _shares(self, n: int, things: str) -> list[int]:
        if self.size > n:
            remedy = f"use at most {n} ranks (mpirun -n) or a finer grid"
            raise CaseError(f"[grid] {self.size} ranks cannot share {n} {things}: {remedy}")
        return split_evenly(n, self.size)

    @cached_property
    def mode_counts(self) -> list[int]:
        """Modes of x of each rank in the transposed layout."""
        return self._shares(self.modes_x, "modes in x")

    @property
    def is_root(self) -> bool:
        """Only the root rank talks and writes."""
        return self.rank == 0

    @cached_property
    def planes(self) -> slice:
        """This rank's global range in y."""
        start = sum(self.plane_counts[: self.rank])
        return slice(start, start + self.plane_counts[self.rank])

    @cached_property
    def modes(self) -> slice:
        """This rank's global range of x modes in the transposed layout."""
        start = sum(self.mode_counts[: self.rank])
        return slice(start, start + self.mode_counts[self.rank])

    @property
    def local_ny(self) -> int:
        """Planes of this rank."""
        return self.plane_counts[self.rank]

    @property
    def below(self) -> int | None:
        """Rank owning the plane below this slab, None at a wall."""
        return self.rank - 1 if self.rank > 0 else (self.size - 1 if self.periodic_y else None)

    @property
    def above(self) -> int | None:
        """Rank owning the plane above this slab, None at a wall."""
        return self.rank + 1 if self.rank < self.size - 1 else (0 if self.periodic_y else None)

    def from_below(self, top: Tensor) -> Tensor | None:
        """The lower neighbour's `top` planes, None at a wall."""
        return self.neighbours(top, None)[0]

    def from_above(self, bottom: Tensor) -> Tensor | None:
        """The upper neighbour's `bottom` planes, None at a wall."""
        return self.neighbours(None, bottom)[1]

    def neighbours(self, top: Tensor | None, bottom: Tensor | None) -> Pair:
        """Both at once."""
        if self.size == 1:
            return (top, bottom) if self.periodic_y else (None, None)
        return self._passed(top, bottom, self.above, self.below)

    def halo(self, field: Tensor, reach: int = 1) -> Pair:
        """The `reach` planes just below and above this slab (dimension -2), None beyond a wall.

        Raises
        ------
        CaseError : a slab has fewer planes.
        """
        if self.size > 1 and reach > min(self.plane_counts):
            raise CaseError(
                f"[closure] slabs of {min(self.plane_counts)} planes are thinner than reach {reach}: use fewer ranks"
            )
        return self.neighbours(field[..., field.shape[-2] - reach :, :], field[..., :reach, :])

    def _passed(self, up: Tensor | None, down: Tensor | None, above: int | None, below: int | None) -> Pair:
        """See `solver.parallel.engines.Engine.shift`."""
        planes = [None if f is None else (f.shape, f.dtype, f.device) for f in (up, down)]

        def there(up: Tensor | None, down: Tensor | None) -> Pair:
            return self.engine.shift(up, down, above, below)

        def back(*gradients: Tensor | None) -> Pair:  # beyond an end there is none, but all ranks send alike
            to_below, to_above = (
                torch.empty(p[0], dtype=p[1], device=p[2]) if g is None and p is not None else g
                for g, p in zip(gradients, planes, strict=True)
            )
            return self.engine.shift(to_above, to_below, above, below)[::-1]

        lower, upper = self.communicator.say(there, back, up, down)
        return lower, upper

    def to_modes(self, field: Tensor) -> Tensor:
        """Transpose ``(..., modes_x, local_ny, nz)`` to ``(..., local modes_x, ny, nz)``."""
        return field if self.size == 1 else self.all_to_modes([field])[0]

    def all_to_modes(self, fields: Sequence[Tensor]) -> list[Tensor]:
        """`to_modes` of several fields of one shape, in one exchange."""
        if self.size == 1:
            return list(fields)
        return self.communicator.say(self._modes_of, self._planes_of, *fields)

    def _modes_of(self, *fields: Tensor) -> list[Tensor]:
        *batch, _, planes, nz = fields[0].shape
        many = len(fields)
        rows = [planes * many * int(np.prod(batch)) * nz * m for m in self.mode_counts]
        send = fields[0].new_empty(sum(rows))
        for block, first, m in zip(send.split(rows), starts(self.mode_counts), self.mode_counts, strict=True):
            for place, f in zip(block.view(planes, many, *batch, m, nz).unbind(1), fields, strict=True):
                place.copy_(f.narrow(-3, first, m).movedim(-2, 0))
        shape = (self.ny, many, *batch, self.mode_counts[self.rank], nz)
        per_row = int(np.prod(shape[1:]))
        received = self.engine.exchange(send, rows, [per_row * p for p in self.plane_counts])
        return list(received.view(shape).movedim(0, -2).unbind())

    def to_planes(self, field: Tensor) -> Tensor:
        """Transpose ``(..., local modes_x, ny, nz)`` back to ``(..., modes_x, local_ny, nz)``."""
        return field if self.size == 1 else self.all_to_planes([field])[0]

    def all_to_planes(self, fields: Sequence[Tensor]) -> list[Tensor]:
        """`to_planes` of several fields of one shape, in one exchange."""
        if self.size == 1:
            return list(fields)
        return self.communicator.say(self._planes_of, self._modes_of, *fields)

    def _planes_of(self, *fields: Tensor) -> list[Tensor]:
        *batch, local_modes, _, nz = fields[0].shape
        many, own = len(fields), self.local_ny
        per_mode = many * int(np.prod(batch)) * nz
        send = fields[0].movedim(-2, 0) if many == 1 else torch.stack([f.movedim(-2, 0) for f in fields], 1)
        counts = [own * per_mode * m for m in self.mode_counts]
        rows = [p * per_mode * local_modes for p in self.plane_counts]
        blocks = self.engine.exchange(send.reshape(-1), rows, counts).split(counts)
        shaped = [b.view(own, many, *batch, m, nz) for b, m in zip(blocks, self.mode_counts, strict=True)]
        return list(torch.cat(shaped, dim=-2).movedim(0, -2).unbind())

    def exchange(self, blocks: Sequence[Tensor], counts: Sequence[int]) -> list[Tensor]:
        """Send each rank a block, and receive from each one of so many numbers, without dimensions."""
        sizes, flat = [block.numel() for block in blocks], torch.cat([block.reshape(-1) for block in blocks])
        received: Tensor = self.communicator.say(
            lambda send: [self.engine.exchange(send, sizes, counts)],
            lambda gradient: [self.engine.exchange(gradient, counts, sizes)],
            flat,
        )[0]
        return list(received.split(list(counts)))

    def sum(self, value: Tensor) -> Tensor:
        """Element-wise sum over ranks."""
        if self.size == 1:
            return value

        def over_ranks(part: Tensor) -> list[Tensor]:
            return [self.engine.reduce(part)]

        total: Tensor = self.communicator.say(over_ranks, over_ranks, value)[0]
        return total

    def sum_for_each(self, part: Callable[[int], Tensor]) -> Tensor:
        """The sum over ranks of the parts for this rank: everyone has one for every rank, `part(rank)`, of one shape.

        The sum for a rank begins with its neighbour above and goes round to it: nobody has more than two at once.
        """
        above, below = (self.rank + 1) % self.size, (self.rank - 1) % self.size
        found = part(below)
        for further in range(2, self.size + 1):
            lower, _ = self._passed(found, None, above, below)
            assert lower is not None
            found = lower + part((self.rank - further) % self.size)
        return found

    def max(self, value: Tensor) -> Tensor:
        """Element-wise maximum over ranks, of what has no gradient; NaN on any rank wins."""
        if self.size == 1:
            return value
        refuse_gradient(value)
        finite = torch.nan_to_num(value, nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
        worst, is_nan = self.engine.reduce(torch.stack([finite, value.isnan().to(value.dtype)]), largest=True)
        return torch.where(is_nan > 0, torch.nan, worst)

    def gather_planes(self, field: Tensor) -> Tensor | None:
        """The whole field on the root (CPU), None elsewhere; slabs are joined along dimension -2."""
        local = field.detach().cpu()
        if self.size == 1:
            return local
        own = local.contiguous().numpy()
        shapes = self.comm.gather(own.shape, root=0)
        if shapes is None:
            self.comm.Send(own, 0)
            return None
        blocks = [own, *(np.empty(shape, own.dtype) for shape in shapes[1:])]
        for rank, block in enumerate(blocks[1:], start=1):  # as they are: pickled ones would have to fit into 2 GiB
            self.comm.Recv(block, rank)
        return torch.from_numpy(np.concatenate(blocks, axis=-2))

    def scatter_planes(self, whole: Tensor | None) -> Tensor:
        """This rank's planes (CPU) of a field that the root holds, None elsewhere; the inverse of `gather_planes`."""
        if self.size == 1:
            assert whole is not None
            return whole
        if whole is None:
            shape, kind = self.comm.scatter(None, root=0)
            own = np.empty(shape, kind)
            self.comm.Recv(own, 0)
            return torch.from_numpy(own)
        blocks = [part.cpu().contiguous().numpy() for part in whole.split(self.plane_counts, dim=-2)]
        self.comm.scatter([(block.shape, block.dtype) for block in blocks], root=0)
        for rank, block in enumerate(blocks[1:], start=1):
            self.comm.Send(block, rank)
        return torch.from_numpy(blocks[0])

    def all_planes(self, field: Tensor, counts: Sequence[int]) -> Tensor:
        """The whole field on every rank, of slabs that have so many planes each (dimension -2)."""
        if self.size == 1:
            return field
        first = field.movedim(-2, 0)
        sizes = [first[:1].numel() * planes for planes in counts]
        own = sizes[self.rank]

        def there(part: Tensor) -> list[Tensor]:
            return [self.engine.gather(part, sizes)]

        def back(gradient: Tensor) -> list[Tensor]:
            return [self.engine.exchange(gradient, sizes, [own] * self.size).view(self.size, own).sum(0)]

        whole: Tensor = self.communicator.say(there, back, first.reshape(-1))[0]
        return whole.view(-1, *first.shape[1:]).movedim(0, -2)

    def broadcast(self, value: Any) -> Any:
        """The root's value on every rank."""
        return self.comm.bcast(value, root=0)

    def agree(self, flag: bool) -> bool:
        """True on every rank if any rank says so."""
        return self.agree_on(flag)[0]

    def agree_on(self, *flags: bool) -> list[bool]:
        """`agree` for several, one by one, at once."""
        mine = np.array([bool(flag) for flag in flags])
        any_of_them = np.empty_like(mine)
        self.comm.Allreduce(mine, any_of_them, op=MPI.LOR)
        found: list[bool] = any_of_them.tolist()
        return found
