"""Who owns what: y-slabs, x-mode slabs, the transpose between them, halo planes, reductions.

Physical and coefficient fields are y-slabs (x and z complete on a rank). Fourier transforms in y, and implicit
diffusion along it, happen on x-mode slabs (y complete). Every method is collective.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from mpi4py import MPI
from torch import Tensor

from solver.errors import CaseError


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
    comm : communicator, the world by default.

    Raises
    ------
    CaseError : more ranks than y planes; than x modes, where these are asked for.
    """

    def __init__(self, ny: int, modes_x: int, periodic_y: bool, comm: MPI.Intracomm | None = None) -> None:
        self.comm = comm if comm is not None else MPI.COMM_WORLD
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
        return self._exchanged(top, None)[0]

    def from_above(self, bottom: Tensor) -> Tensor | None:
        """The upper neighbour's `bottom` planes, None at a wall."""
        return self._exchanged(None, bottom)[1]

    def neighbours(self, top: Tensor, bottom: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Both at once."""
        return self._exchanged(top, bottom)

    def halo(self, field: Tensor, reach: int = 1) -> tuple[Tensor | None, Tensor | None]:
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

    def _exchanged(self, top: Tensor | None, bottom: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        if self.size == 1:
            return (top, bottom) if self.periodic_y else (None, None)
        found: list[Tensor | None] = [None, None]
        requests, sent = [], []
        # what goes up has tag 0: with two ranks and a periodic y both neighbours are the same
        for tag, (plane, dest, source) in enumerate(((top, self.above, self.below), (bottom, self.below, self.above))):
            if plane is None:
                continue
            _refuse_gradient(plane)
            if source is not None:
                found[tag] = space = torch.empty(plane.shape, dtype=plane.dtype)
                requests.append(self.comm.Irecv(space.numpy(), source, tag))
            if dest is not None:
                sent.append(_to_host(plane))
                requests.append(self.comm.Isend(sent[-1], dest, tag))
        MPI.Request.Waitall(requests)
        given = bottom if top is None else top
        assert given is not None
        lower, upper = (None if f is None else f.to(given.device) for f in found)
        return lower, upper

    def to_modes(self, field: Tensor) -> Tensor:
        """Transpose ``(..., modes_x, local_ny, nz)`` to ``(..., local modes_x, ny, nz)``."""
        return field if self.size == 1 else self.all_to_modes([field])[0]

    def all_to_modes(self, fields: Sequence[Tensor]) -> list[Tensor]:
        """`to_modes` of several fields of one shape, in one exchange."""
        if self.size == 1:
            return list(fields)
        for f in fields:
            _refuse_gradient(f)
        *batch, _, planes, nz = fields[0].shape
        many = len(fields)
        rows = [planes * many * int(np.prod(batch)) * nz * m for m in self.mode_counts]
        send = fields[0].new_empty(sum(rows))
        for block, first, m in zip(send.split(rows), starts(self.mode_counts), self.mode_counts, strict=True):
            for place, f in zip(block.view(planes, many, *batch, m, nz).unbind(1), fields, strict=True):
                place.copy_(f.narrow(-3, first, m).movedim(-2, 0))
        shape = (self.ny, many, *batch, self.mode_counts[self.rank], nz)
        per_row = int(np.prod(shape[1:]))
        received = self._alltoall(send, rows, [per_row * p for p in self.plane_counts])
        return list(received.view(shape).movedim(0, -2).unbind())

    def to_planes(self, field: Tensor) -> Tensor:
        """Transpose ``(..., local modes_x, ny, nz)`` back to ``(..., modes_x, local_ny, nz)``."""
        return field if self.size == 1 else self.all_to_planes([field])[0]

    def all_to_planes(self, fields: Sequence[Tensor]) -> list[Tensor]:
        """`to_planes` of several fields of one shape, in one exchange."""
        if self.size == 1:
            return list(fields)
        *batch, local_modes, _, nz = fields[0].shape
        many, own = len(fields), self.local_ny
        per_mode = many * int(np.prod(batch)) * nz
        send = fields[0].movedim(-2, 0) if many == 1 else torch.stack([f.movedim(-2, 0) for f in fields], 1)
        counts = [own * per_mode * m for m in self.mode_counts]
        rows = [p * per_mode * local_modes for p in self.plane_counts]
        blocks = self._alltoall(send.reshape(-1), rows, counts).split(counts)
        shaped = [b.view(own, many, *batch, m, nz) for b, m in zip(blocks, self.mode_counts, strict=True)]
        return list(torch.cat(shaped, dim=-2).movedim(0, -2).unbind())

    def exchange(self, blocks: Sequence[Tensor], counts: Sequence[int]) -> list[Tensor]:
        """Send each rank a block, and receive from each one of so many numbers, without dimensions."""
        send = torch.cat([block.reshape(-1) for block in blocks])
        return list(self._alltoall(send, [block.numel() for block in blocks], list(counts)).split(list(counts)))

    def _alltoall(self, send: Tensor, send_counts: list[int], receive_counts: list[int]) -> Tensor:
        staged = _to_host(send)
        received = np.empty(sum(receive_counts), staged.dtype)
        self.comm.Alltoallv((staged, send_counts), (received, receive_counts))
        return torch.from_numpy(received).to(send.device)

    def sum(self, value: Tensor) -> Tensor:
        """Element-wise sum over ranks."""
        return self._reduce(value, MPI.SUM)

    def sum_for_each(self, parts: Iterable[Tensor]) -> Tensor:
        """The sum over ranks of the parts for this rank: everyone has one for every rank, in their order."""
        own = None
        for rank, part in enumerate(parts):
            if self.size == 1:
                return part
            send = _to_host(part)
            receive = np.empty_like(send) if rank == self.rank else None
            self.comm.Reduce(send, receive, op=MPI.SUM, root=rank)
            if receive is not None:
                own = torch.from_numpy(receive).to(part.device)
        assert own is not None
        return own

    def max(self, value: Tensor) -> Tensor:
        """Element-wise maximum over ranks; NaN on any rank wins."""
        if self.size == 1:
            return value
        finite = torch.nan_to_num(value, nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
        worst, is_nan = self._reduce(torch.stack([finite, value.isnan().to(value.dtype)]), MPI.MAX)
        return torch.where(is_nan > 0, torch.nan, worst)

    def _reduce(self, value: Tensor, operation: MPI.Op) -> Tensor:
        if self.size == 1:
            return value
        send = _to_host(value)
        receive = np.empty_like(send)
        self.comm.Allreduce(send, receive, op=operation)
        return torch.from_numpy(receive).to(value.device)

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
        send = _to_host(field.movedim(-2, 0))
        whole = np.empty((sum(counts), *send.shape[1:]), send.dtype)
        row = whole[:1].size
        self.comm.Allgatherv(send, (whole, [row * planes for planes in counts]))
        return torch.from_numpy(whole).to(field.device).movedim(0, -2)

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


def _refuse_gradient(f: Tensor) -> None:
    """Raises CaseError if a gradient is recorded, and would end here without a word."""
    if torch.is_grad_enabled() and f.requires_grad:
        raise CaseError(
            "gradients do not pass between ranks: differentiate on one rank (without mpirun), or use torch.no_grad()"
        )


def _to_host(f: Tensor) -> np.ndarray:
    """What is sent to other ranks."""
    _refuse_gradient(f)
    return f.detach().cpu().contiguous().numpy()
