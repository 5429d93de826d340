"""What an exchange between ranks asks of a device, engine by engine; the other ranks are recorders.

No rank here has a GPU of its own, so neither NCCL nor an MPI that reaches GPUs has run: what is tested is what they are
handed, and when.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mpi4py import MPI

from solver.parallel.communicator import Communicator
from solver.parallel.engines import Mpi, ProcessGroup
from solver.parallel.slabs import Slabs
from tests.gpu.pretend import NAME, OnDevice, counted, pretended


class Echo:
    """A communicator of two ranks, both of which say what this one does."""

    rank, size = 0, 2

    def __init__(self) -> None:
        self.heard: list[object] = []
        self.waiting: dict[int, object] = {}

    def _copy(self, send, receive):
        self.heard.append(send)
        if isinstance(send, np.ndarray):
            receive[...] = send
        else:
            receive.copy_(send)

    def Allreduce(self, send, receive, op):
        self._copy(send, receive)

    def Irecv(self, buffer, source, tag):
        self.waiting[tag] = buffer
        return MPI.REQUEST_NULL

    def Isend(self, buffer, dest, tag):
        self._copy(buffer, self.waiting[tag])
        return MPI.REQUEST_NULL

    def Alltoallv(self, send, receive):
        assert list(send[1]) == list(receive[1])
        self._copy(send[0], receive[0])

    def Allgatherv(self, own, receive):
        self._copy(np.concatenate([own, own]) if isinstance(own, np.ndarray) else torch.cat([own, own]), receive[0])


class EchoGroup:
    """What a process group of torch is called for."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def allreduce(self, tensors):
        self.heard += tensors
        return SimpleNamespace(wait=lambda: None)

    def alltoall_base(self, received, given, back, counts):
        assert (sum(back), sum(counts)) == (received.numel(), given.numel())
        self.heard.append(given)
        received.copy_(given)
        return SimpleNamespace(wait=lambda: None)


def of_group() -> tuple[ProcessGroup, list[object]]:
    """A process group whose device group is a recorder."""
    group, echo = ProcessGroup.__new__(ProcessGroup), EchoGroup()
    group.rank, group.size, group.groups = 0, 2, {NAME: echo}
    return group, echo.heard


def of_mpi(direct: bool) -> tuple[Mpi, list[object]]:
    """MPI on a communicator that is a recorder."""
    echo = Echo()
    return Mpi(echo, direct), echo.heard


ENGINES = {  # what it is handed; reads, waits and copies to the device of something said to one rank
    "mpi": (lambda: of_mpi(False), np.ndarray, (1, 1, 1)),
    "device_mpi": (lambda: of_mpi(True), OnDevice, (0, 1, 0)),
    "process_group": (of_group, OnDevice, (0, 0, 0)),
}
SAID = {
    "sum": (lambda slabs, f: [slabs.sum(f)], 1),
    "from_below": (lambda slabs, f: [slabs.from_below(f)], 1),
    "halo": (lambda slabs, f: slabs.halo(f), 2),
    "to_modes": (lambda slabs, f: [slabs.to_modes(f)], 1),
    "all_planes": (lambda slabs, f: [slabs.all_planes(f, slabs.plane_counts)], 1),
}


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("said", SAID)
def test_what_an_exchange_asks_of_a_device(name, said):
    make, kind, each = ENGINES[name]
    say, planes = SAID[said]
    with pretended() as device:
        engine, heard = make()
        slabs = Slabs(4, 4, True, Communicator(Echo(), engine))
        field = torch.arange(48.0, dtype=torch.float64).reshape(2, 4, 2, 3).to(device)
        with counted() as tally:
            found = say(slabs, field)
        assert all(isinstance(f, OnDevice) for f in found)
        assert heard
        assert all(isinstance(f, kind) for f in heard)
        reads, waits, sent = (planes * n for n in each)
        assert tally.totals() == {"sent": sent, "read": reads, "waits": waits}, str(tally)
        on_cpu = say(Slabs(4, 4, True, Communicator(Echo(), of_mpi(False)[0])), field.raw)
        for f, expected in zip(found, on_cpu, strict=True):
            assert torch.equal(f.raw, expected)
