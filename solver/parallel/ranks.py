"""The processes of a run: which one this is, what all are told, and the device each computes on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import torch
from mpi4py import MPI

from solver.errors import CaseError, RunFolderError, SolverError

T = TypeVar("T")
Intracomm = MPI.Intracomm


def is_root() -> bool:
    """Whether this process is rank 0 of the world."""
    return MPI.COMM_WORLD.rank == 0


def world_rank() -> int:
    """This process among those of the world."""
    return MPI.COMM_WORLD.rank


def world_size() -> int:
    """Number of ranks in the world."""
    return MPI.COMM_WORLD.size


def world() -> MPI.Intracomm:
    """The communicator of all ranks."""
    return MPI.COMM_WORLD


def alone() -> MPI.Intracomm:
    """The communicator of this process with itself."""
    return MPI.COMM_SELF


def broadcast(value: Any) -> Any:
    """The value of rank 0 of the world on every rank."""
    return MPI.COMM_WORLD.bcast(value, root=0)


def barrier() -> None:
    """Wait for every rank of the world."""
    MPI.COMM_WORLD.Barrier()


def from_root(comm: Any, action: Callable[[], T]) -> T:
    """What `action` returns on the root, on every rank of `comm`; collective.

    Raises
    ------
    RunFolderError : on every rank, if it fails there.
    """
    answer, problem = None, None
    if comm.rank == 0:
        answer, problem = _tried(action)
    told: tuple[T, str] = comm.bcast((answer, problem), root=0)
    if told[1]:
        raise RunFolderError(told[1])
    return told[0]


def everywhere(comm: Any, action: Callable[[], object]) -> None:
    """Do the same on every rank of `comm`; collective.

    Raises
    ------
    RunFolderError : on every rank, if it fails on one of them.
    """
    _, problem = _tried(action)
    if problems := [other for other in comm.allgather(problem) if other]:
        raise RunFolderError(problems[0])


def _tried(action: Callable[[], T]) -> tuple[T | None, str]:
    """What it returns, or how it failed."""
    try:
        return action(), ""
    except (SolverError, OSError) as error:
        return None, str(error)


def abort(code: int) -> None:
    """End every rank now: an exception on one rank must not leave the others waiting."""
    MPI.COMM_WORLD.Abort(code)


def library_version() -> str:
    """The MPI library in one line."""
    return MPI.Get_library_version().splitlines()[0].strip("\0 ,")


@cache
def local_rank() -> int:
    """Rank among the processes of this node; the first call is collective over the world, later ones are not.

    MPI knows. What the environment says may be about another launcher, so that every rank reads 0 there; only a
    process that MPI takes to be alone has nothing else to go by.
    """
    world = MPI.COMM_WORLD
    if world.size == 1:
        return next((int(os.environ[name]) for name in ("LOCAL_RANK", "SLURM_LOCALID") if name in os.environ), 0)
    with on_node(world) as node:
        return node.rank


@contextmanager
def on_node(comm: MPI.Intracomm) -> Iterator[MPI.Comm]:
    """The ranks of `comm` on this node; collective."""
    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    try:
        yield node
    finally:
        node.Free()


def choose_device(wanted: str) -> torch.device:
    """`wanted` is ``auto``, ``cpu`` or ``cuda``; local ranks share the GPUs round robin, each has one of them current.

    Raises
    ------
    CaseError : ``cuda`` was asked for and none is visible.
    """
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise CaseError("[run] device = 'cuda', but torch sees no GPU: use device = 'auto' or 'cpu'")
    device = torch.device("cuda", local_rank() % torch.cuda.device_count())
    torch.cuda.set_device(device)  # what names no device, as events and waits, is about this one
    return device
