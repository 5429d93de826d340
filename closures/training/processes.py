"""The processes that train together (torchrun's), or the one that trains alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from solver.errors import FeatureUnavailable

ENVIRONMENT = {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}


@dataclass(frozen=True)
class Team:
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

    def share(self, module: nn.Module) -> nn.Module:
        """`module` with its gradients averaged over processes."""
        return DistributedDataParallel(module) if self.size > 1 else module

    def wait(self) -> None:
        """Until all processes are here (collective)."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def team(device: str) -> Iterator[Team]:
    """Join the group that torchrun describes in the environment, if any, and leave it at the end.

    Raises
    ------
    FeatureUnavailable : a GPU is asked for and there is none.
    """
    size, rank, local = (int(os.environ.get(key, default)) for key, default in ENVIRONMENT.items())
    here = int(os.environ.get("LOCAL_WORLD_SIZE", size))
    gpus = torch.cuda.device_count() if device != "cpu" else 0
    if device == "cuda" and gpus == 0:
        raise FeatureUnavailable("[loop] device = 'cuda': torch sees no GPU: use device = 'auto' or 'cpu'")
    own = torch.device("cuda", local % gpus) if gpus else torch.device("cpu")
    if size > 1:  # gloo where processes share a GPU: NCCL refuses that
        dist.init_process_group("nccl" if here <= gpus else "gloo", rank=rank, world_size=size)
    try:
        yield Team(rank, size, own)
    finally:
        if size > 1:
            dist.destroy_process_group()
