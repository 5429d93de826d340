"""What a run on this machine would use, as it is found; `solver.run.doctor` judges it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.version

from solver.discretisation import fusion
from solver.files.folder import processor
from solver.parallel import ranks
from solver.parallel.engines import is_cuda_aware
from solver.pressure import petsc_library
from solver.run import node
from solver.run.machine import trust_compiler

GIB = 2**30
LAUNCHERS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")  # who has started several says so


@dataclass(frozen=True)
class RankFacts:
    """Of one rank.

    Parameters
    ----------
    rank, host : which one, and its node.
    cores : what it may run on, see `solver.run.node.cores`.
    present : hardware threads of its node, whoever may use them.
    quota : processor seconds a second that its container grants.
    threads : that torch and the transforms take.
    gpus, gpu : names of those that it sees, and the number of the one that it would take.
    memory : GiB that are free on its node, or in its container; nan where nobody says.
    environment : with which it was started.
    """

    rank: int
    host: str
    cores: node.Cores
    present: int
    quota: float
    threads: int
    gpus: tuple[str, ...]
    gpu: int | None
    memory: float
    environment: dict[str, str]


@dataclass(frozen=True)
class Installed:
    """What is the same on all ranks.

    Parameters
    ----------
    processor : its name.
    launched : ranks that a launcher says it has started, 0 if there was none.
    mpi, mpirun, cuda_aware : the library, the command ("" without), and whether it reaches the memory of GPUs.
    torch, torch_cuda, driver : versions ("" of one without CUDA), and whether there is a driver of NVIDIA.
    ducc : version.
    compiler : whether kernels can be fused on the CPU, and on a GPU.
    vectors : bits of the vectors that kernels of the CPU are made of, 0 where torch finds none that work.
    cache, cache_problem : where compiled kernels are kept, and why they cannot be ("").
    petsc : version, or "".
    folder, disk, folder_problem : where runs are written, GiB that are free there, and why they cannot be ("").
    pictures : whether there is pyvista.
    """

    processor: str
    launched: int
    mpi: str
    mpirun: str
    cuda_aware: bool
    torch: str
    torch_cuda: str
    driver: bool
    ducc: str
    compiler: tuple[bool, bool]
    vectors: int
    cache: Path
    cache_problem: str
    petsc: str
    folder: Path
    disk: float
    folder_problem: str
    pictures: bool


def of_rank() -> RankFacts:
    """Those of this rank (collective)."""
    there, local = torch.cuda.is_available(), ranks.local_rank()
    gpus = tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())) if there else ()
    return RankFacts(
        ranks.world_rank(),
        platform.node(),
        node.cores(),
        os.cpu_count() or 1,
        node.quota(),
        torch.get_num_threads(),
        gpus,
        local % len(gpus) if gpus else None,
        free_memory(),
        first_environment(),
    )


def of_all() -> list[RankFacts]:
    """Those of all ranks, on every one (collective)."""
    found: list[RankFacts] = ranks.world().allgather(of_rank())
    return found


def nodes(everybody: Sequence[RankFacts]) -> dict[str, list[RankFacts]]:
    """The ranks of each node."""
    found: dict[str, list[RankFacts]] = {}
    for rank in everybody:
        found.setdefault(rank.host, []).append(rank)
    return found


def installed(folder: Path) -> Installed:
    """What is installed; runs are written below `folder`."""
    environment = first_environment()
    launched = max((int(n) for name in LAUNCHERS if (n := environment.get(name, "")).isdigit()), default=0)
    cache = Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR") or fusion_cache())
    petsc = ""
    if importlib.util.find_spec("petsc4py"):
        petsc = ".".join(map(str, petsc_library.petsc("install it again").Sys.getVersion()))
    return Installed(
        processor(),
        launched,
        ranks.library_version(),
        shutil.which("mpirun") or "",
        is_cuda_aware(),
        torch.__version__,
        torch.version.cuda or "",
        Path("/proc/driver/nvidia/version").is_file() or shutil.which("nvidia-smi") is not None,
        importlib.metadata.version("ducc0"),
        (fusion.compiler_available("cpu"), fusion.compiler_available("cuda")),
        vector_bits() if fusion.compiler_available("cpu") else 0,
        cache,
        unwritable(cache),
        petsc,
        folder,
        shutil.disk_usage(folder).free / GIB,
        unwritable(folder),
        importlib.util.find_spec("pyvista") is not None,
    )


def fusion_cache() -> Path:
    """Where torch keeps compiled kernels unless it is told otherwise."""
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir  # here: it takes a second

    return Path(default_cache_dir())


def vector_bits() -> int:
    """Of the vectors of which torch's compiler makes kernels, as runs have it."""
    trust_compiler()
    from torch._inductor import cpu_vec_isa  # here: it takes a second

    return int(cpu_vec_isa.pick_vec_isa().bit_width())


def unwritable(folder: Path) -> str:
    """Why nothing can be written there, or where it would be made; "" if it can."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not there.is_dir():
        return f"{there} is a file"
    return "" if os.access(there, os.W_OK | os.X_OK) else f"{there} cannot be written"


def first_environment() -> dict[str, str]:
    """The environment with which this process was started, before anybody added to it."""
    try:
        entries = Path("/proc/self/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return dict(os.environ)
    return dict(entry.partition("=")[::2] for entry in entries if "=" in entry)


def free_memory() -> float:
    """GiB that a process can still take: of the node, or of its container if that has less; nan if unknown."""
    found = math.nan
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found = next(int(line.split()[1]) / 2**20 for line in lines if line.startswith("MemAvailable"))
        group = node.SYSTEM / "fs/cgroup"
        limit, used = ((group / name).read_text(encoding="ascii") for name in ("memory.max", "memory.current"))
        return min(found, (int(limit) - int(used)) / GIB)
    except (OSError, ValueError, StopIteration):  # no such system, or a container without a limit
        return found
