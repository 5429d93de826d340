"""How numbers get from rank to rank: MPI through the host's memory, MPI as they are, or a process group of torch.

The host's memory is what any MPI library reaches; fields of a GPU are staged through page-locked memory. A library that
is CUDA-aware reaches those of a GPU itself. A process group is NCCL's on GPUs, and gloo's, which is for tests, on CPUs.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from mpi4py import MPI
from torch import Tensor

from solver.errors import CaseError, FeatureUnavailable
from solver.parallel.late import wait_for

Pair = tuple[Tensor | None, Tensor | None]
dist: Any = torch.distributed  # much of which has no types


class Engine(Protocol):
    """What ranks say to one another about fields; every method is collective, and keeps a tensor where it lives.

    Attributes
    ----------
    name : as ``[run] exchange`` has it.
    """

    name: str

    def reduce(self, value: Tensor, largest: bool = False) -> Tensor:
        """The sum over ranks, entry by entry, or the largest."""
        ...

    def shift(self, up: Tensor | None, down: Tensor | None, above: int | None, below: int | None) -> Pair:
        """What comes from the ranks `below` and `above`, for what goes there; None beyond an end.

        What all ranks give as None is sent by none; what comes has the shape of what goes the same way.
        """
        ...

    def exchange(self, send: Tensor, counts: Sequence[int], back: Sequence[int]) -> Tensor:
        """So many of the numbers `send` to each rank, for so many from each, in their order."""
        ...

    def gather(self, own: Tensor, counts: Sequence[int]) -> Tensor:
        """The numbers of all ranks, so many of each, in their order."""
        ...


class Mpi:
    """Calls of an MPI library.

    Parameters
    ----------
    comm : the ranks.
    direct : whether it is handed tensors as they are (DLPack), wherever they live, and not memory of the host.
    """

    def __init__(self, comm: MPI.Intracomm, direct: bool = False) -> None:
        self.comm, self.direct = comm, direct
        self.name = "device_mpi" if direct else "mpi"

    def reduce(self, value: Tensor, largest: bool = False) -> Tensor:
        """See `Engine`."""
        found = self._space(value.shape, value)
        self.comm.Allreduce(self._given(value), self._buffer(found), op=MPI.MAX if largest else MPI.SUM)
        return self._home(found, value)

    def shift(self, up: Tensor | None, down: Tensor | None, above: int | None, below: int | None) -> Pair:
        """See `Engine`."""
        found: list[Tensor | None] = [None, None]
        requests, sent = [], []
        # what goes up has tag 0: with two ranks and a periodic y both neighbours are the same
        for tag, (plane, dest, source) in enumerate(((up, above, below), (down, below, above))):
            if plane is None:
                continue
            if source is not None:
                found[tag] = space = self._space(plane.shape, plane)
                requests.append(self.comm.Irecv(self._buffer(space), source, tag))
            if dest is not None:
                sent.append(self._given(plane))
                requests.append(self.comm.Isend(sent[-1], dest, tag))
        MPI.Request.Waitall(requests)
        like = down if up is None else up
        assert like is not None
        lower, upper = (None if f is None else self._home(f, like) for f in found)
        return lower, upper

    def exchange(self, send: Tensor, counts: Sequence[int], back: Sequence[int]) -> Tensor:
        """See `Engine`."""
        found = self._space((sum(back),), send)
        self.comm.Alltoallv((self._given(send), counts), (self._buffer(found), back))
        return self._home(found, send)

    def gather(self, own: Tensor, counts: Sequence[int]) -> Tensor:
        """See `Engine`."""
        found = self._space((sum(counts),), own)
        self.comm.Allgatherv(self._given(own), (self._buffer(found), counts))
        return self._home(found, own)

    def _given(self, f: Tensor) -> Any:
        """What is sent, once the device has made it."""
        f = f.detach().contiguous()
        if f.device.type == "cpu":
            return self._buffer(f)
        staged = f if self.direct else self._space(f.shape, f).copy_(f, non_blocking=True)
        wait_for(f.device)
        return self._buffer(staged)

    def _space(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Where the library reads or writes. Page-locked memory is torch's to keep: it knows when a copy is done."""
        if self.direct or like.device.type == "cpu":
            return like.new_empty(shape)
        return torch.empty(shape, dtype=like.dtype, device="cpu", pin_memory=like.device.type == "cuda")

    def _buffer(self, f: Tensor) -> Any:
        return f if self.direct else f.numpy()

    @staticmethod
    def _home(f: Tensor, like: Tensor) -> Tensor:
        return f.to(like.device, non_blocking=True)


class ProcessGroup:
    """Calls of torch.distributed, begun by MPI: the root opens a store, of which it tells the others the address.

    Parameters
    ----------
    comm : the ranks.
    device : where fields live; numbers of the host, of which there are few, are gloo's in any case.
    """

    name = "process_group"

    def __init__(self, comm: MPI.Intracomm, device: torch.device) -> None:
        self.rank, self.size = comm.rank, comm.size
        kinds = {"cpu": "ProcessGroupGloo"} | ({"cuda": "ProcessGroupNCCL"} if device.type == "cuda" else {})
        store = rendezvous(comm)
        self.largest = dist.ReduceOp.MAX
        self.groups = {
            home: getattr(dist, kind)(dist.PrefixStore(home, store), self.rank, self.size)
            for home, kind in kinds.items()
        }

    def reduce(self, value: Tensor, largest: bool = False) -> Tensor:
        """See `Engine`."""
        found = value.detach().clone(memory_format=torch.contiguous_format)
        group = self.groups[value.device.type]
        (group.allreduce([_real(found)], self.largest) if largest else group.allreduce([_real(found)])).wait()
        return found

    def shift(self, up: Tensor | None, down: Tensor | None, above: int | None, below: int | None) -> Pair:
        """See `Engine`; an exchange that has something for two ranks alone."""
        ways = ((up, above, below), (down, below, above))
        sends = [(dest, f) for f, dest, _ in ways if f is not None and dest is not None]
        comes = [(source, way, f) for way, (f, _, source) in enumerate(ways) if f is not None and source is not None]
        like = down if up is None else up
        assert like is not None
        flat = [f.reshape(-1) for rank in range(self.size) for dest, f in sends if dest == rank]
        counts = [sum(f.numel() for dest, f in sends if dest == rank) for rank in range(self.size)]
        back = [sum(f.numel() for source, _, f in comes if source == rank) for rank in range(self.size)]
        received = self.exchange(torch.cat(flat) if flat else like.new_empty(0), counts, back)
        found: list[Tensor | None] = [None, None]
        ordered = sorted(comes, key=lambda one: one[:2])
        parts = received.split([f.numel() for _, _, f in ordered])
        for (_, way, f), part in zip(ordered, parts, strict=True):
            found[way] = part.view(f.shape)
        return found[0], found[1]

    def exchange(self, send: Tensor, counts: Sequence[int], back: Sequence[int]) -> Tensor:
        """See `Engine`."""
        found = send.new_empty(sum(back))
        group, parts = self.groups[send.device.type], 2 if send.is_complex() else 1
        given, received = (_real(f).flatten() for f in (send.detach().contiguous(), found))
        group.alltoall_base(received, given, [parts * n for n in back], [parts * n for n in counts]).wait()
        return found

    def gather(self, own: Tensor, counts: Sequence[int]) -> Tensor:
        """See `Engine`; an exchange in which all are sent the same."""
        flat = own.reshape(-1)
        return self.exchange(flat.repeat(self.size), [flat.numel()] * self.size, counts)


def _real(f: Tensor) -> Tensor:
    """A view without complex numbers."""
    return torch.view_as_real(f) if f.is_complex() else f


def rendezvous(comm: MPI.Intracomm) -> Any:
    """A store of torch.distributed for the ranks of `comm`, in a process of its root (collective)."""
    names = comm.allgather(MPI.Get_processor_name())
    host = "127.0.0.1" if len(set(names)) == 1 else names[0]
    store = dist.TCPStore(host, 0, comm.size, True, wait_for_workers=False) if comm.rank == 0 else None
    port = comm.bcast(None if store is None else store.port, root=0)
    return store or dist.TCPStore(host, port, comm.size, False)


def is_cuda_aware() -> bool:
    """Whether the MPI library says that it reaches the memory of GPUs.

    It does by an extension that Open MPI and MVAPICH have, by what MPI 4.1 (section 12.4.3) puts into the information
    of a communicator, or by the variable that switches it on in Cray MPICH.
    """
    if os.environ.get("MPICH_GPU_SUPPORT_ENABLED") == "1":
        return True
    if "cuda" in (MPI.COMM_WORLD.Get_info().Get("mpi_memory_alloc_kinds") or ""):
        return True
    with contextlib.suppress(OSError, AttributeError):  # not a library that has it
        return bool(ctypes.CDLL(MPI.__file__).MPIX_Query_cuda_support())
    return False


def choose(wanted: str, device: torch.device, comm: MPI.Intracomm | None = None) -> Engine:
    """The engine for fields on `device`: ``mpi``, ``device_mpi``, ``process_group``, or ``auto`` (collective).

    That is MPI on CPUs; on GPUs MPI of device memory if the library says that it can, else NCCL if each rank has a GPU
    of its own, else MPI through the host. Alone a rank has nothing to say, and no engine is started.

    Raises
    ------
    CaseError : ranks share a GPU, which NCCL refuses.
    FeatureUnavailable : this torch has no NCCL.
    """
    comm = MPI.COMM_WORLD if comm is None else comm
    if comm.size == 1:
        return Mpi(comm)
    places = comm.allgather((MPI.Get_processor_name(), device.index, is_cuda_aware()))
    shared = len({(name, index) for name, index, _ in places}) < comm.size
    nccl = dist.is_available() and dist.is_nccl_available()
    on_gpu = device.type == "cuda"
    if wanted == "auto" and on_gpu:
        aware = all(aware for *_, aware in places)
        wanted = "device_mpi" if aware else "process_group" if nccl and not shared else "mpi"
    if wanted == "process_group":
        if on_gpu and not nccl:
            raise FeatureUnavailable("[run] exchange = 'process_group': this torch has no NCCL: use exchange = 'mpi'")
        if on_gpu and shared:
            raise CaseError(
                "[run] exchange = 'process_group': ranks share a GPU, which NCCL refuses: "
                "use exchange = 'mpi', or as many ranks on a node as it has GPUs"
            )
        return ProcessGroup(comm, device)
    return Mpi(comm, direct=wanted == "device_mpi")
