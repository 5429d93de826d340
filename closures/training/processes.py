"""The processes that train together: those of torchrun share batches, ranks of mpirun a flow; or one, alone."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from solver.errors import CaseError, FeatureUnavailable
from solver.parallel import ranks
from solver.parallel.engines import Mpi

ENVIRONMENT = {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}


@dataclass(frozen=True)
class ProcessGroup:
    """Who trains with whom, and where."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_root(self) -> bool:
        """Only the root process talks and writes."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Sum over processes (collective)."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def mean(self, values: Tensor) -> Tensor:
        """Mean over processes of what each has of an equal share of the batch (collective).

        Its derivative by a process's own values is one, not ``1 / size``: `share` averages the gradients afterwards.
        """
        if self.size == 1:
            return values
        return values + (self.sum(values.detach().clone()) / self.size - values.detach())

    def share(self, module: nn.Module) -> nn.Module:
        """`module` with its gradients averaged over processes."""
        return DistributedDataParallel(module) if self.size > 1 else module

    def settle(self, weights: Sequence[Tensor]) -> None:
        """After a backward pass, make of each process's gradients those of the batch; those of `share` are."""

    def wait(self) -> None:
        """Until all processes are here (collective)."""
        if self.size > 1:
            dist.barrier(device_ids=[self.device.index] if dist.get_backend() == "nccl" else None)


class FlowGroup(ProcessGroup):
    """The ranks of mpirun, which share each flow: of a batch they all have the whole, as if they were one process."""

    @property
    def is_root(self) -> bool:
        """See `ProcessGroup`."""
        return ranks.is_root()

    def settle(self, weights: Sequence[Tensor]) -> None:
        """The mean over ranks: each goes back from a loss that is the same on all (collective)."""
        gradients = [w.grad for w in weights if w.grad is not None]
        if ranks.world_size() == 1 or not gradients:
            return
        whole = Mpi(ranks.world()).reduce(torch.cat([g.flatten() for g in gradients])) / ranks.world_size()
        for g, mean in zip(gradients, whole.split([g.numel() for g in gradients]), strict=True):
            g.copy_(mean.view_as(g))

    def wait(self) -> None:
        """See `ProcessGroup`."""
        ranks.barrier()


ALONE = ProcessGroup(0, 1, torch.device("cpu"))


def check_alone(what: str, remedy: str) -> None:
    """Raises CaseError in a process that torchrun has started beside others, for `what` cannot be shared so."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise CaseError(f"{what} is not shared by the processes of torchrun: {remedy}")


@contextmanager
def process_group(device: str, apart: bool = False, flow: bool = False) -> Iterator[ProcessGroup]:
    """Join the group that torchrun describes in the environment, if any, and leave it at the end.

    `apart`: the other ranks of mpirun, if there are any, do something else. `flow`: they share each flow with this one.

    Raises
    ------
    FeatureUnavailable : a GPU is asked for and there is none.
    CaseError : mpirun has started several, each of which would train the same.
    """
    if flow:
        check_alone("[solver] split = 'flow': a flow", "start its ranks with mpirun")
        yield FlowGroup(0, 1, torch.device("cpu"))
        return
    if ranks.world_size() > 1 and not apart:
        raise CaseError(
            f"{ranks.world_size()} ranks of mpirun cannot share this training: start its processes with "
            "torchrun --nproc-per-node N -m solver train ..., or share the flow: [solver] split = 'flow'"
        )
    size, rank, local = (int(os.environ.get(key, default)) for key, default in ENVIRONMENT.items())
    here = int(os.environ.get("LOCAL_WORLD_SIZE", size))
    gpus = torch.cuda.device_count() if device != "cpu" else 0
    if device == "cuda" and gpus == 0:
        raise FeatureUnavailable("[loop] device = 'cuda': torch sees no GPU: use device = 'auto' or 'cpu'")
    own = torch.device("cuda", local % gpus) if gpus else torch.device("cpu")
    if gpus:
        torch.cuda.set_device(own)  # else every process has a context on the first GPU, and NCCL works on that one
    if size > 1:  # gloo where processes share a GPU: NCCL refuses that
        backend, bound = ("nccl", own) if here <= gpus else ("gloo", None)
        dist.init_process_group(backend, rank=rank, world_size=size, device_id=bound)
    try:
        yield ProcessGroup(rank, size, own)
    finally:
        if size > 1:
            dist.destroy_process_group()
