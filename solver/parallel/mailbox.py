"""Messages between ranks that do different work: sent without waiting, waited for without keeping a core busy."""

from __future__ import annotations

import time
from typing import Any

from mpi4py import MPI

PAUSE = 5e-4  # seconds between two looks; MPI's own waiting takes a whole core, which others here have a use for


class Mailbox:
    """The letters of one rank: from each of the others in the order in which it sent them.

    Parameters
    ----------
    comm : those who write to each other; the world by default. The mailbox has a communicator of its own.
    """

    def __init__(self, comm: MPI.Intracomm | None = None) -> None:
        self._comm = (comm if comm is not None else MPI.COMM_WORLD).Dup()
        self._under_way: list[MPI.Request] = []

    @property
    def rank(self) -> int:
        """Mine."""
        return self._comm.rank

    @property
    def size(self) -> int:
        """Ranks in all."""
        return self._comm.size

    def send(self, rank: int, letter: Any) -> None:
        """Send a picklable value; returns at once."""
        self._open()  # forgets those that were read
        self._under_way.append(self._comm.issend(letter, dest=rank))

    def has(self, rank: int | None = None) -> bool:
        """Whether there is a letter, from `rank` or from anybody."""
        return bool(self._comm.iprobe(source=MPI.ANY_SOURCE if rank is None else rank))

    def receive(self, rank: int | None = None) -> tuple[int, Any]:
        """Wait for a letter, from `rank` or from anybody; who wrote it, and what."""
        while not self.has(rank):
            time.sleep(PAUSE)
        status = MPI.Status()
        letter = self._comm.recv(source=MPI.ANY_SOURCE if rank is None else rank, status=status)
        return status.Get_source(), letter

    def close(self) -> None:
        """Throw away what nobody reads any more, and end: all letters of all ranks have been read (collective)."""
        while self._open():
            self._discard()
        ended = self._comm.Ibarrier()
        while not ended.Test():
            self._discard()

    def _discard(self) -> None:
        if self.has():
            self.receive()
        else:
            time.sleep(PAUSE)

    def _open(self) -> bool:
        """Whether a letter of mine has not been read."""
        self._under_way = [request for request in self._under_way if not request.Test()]
        return bool(self._under_way)
