"""Start-up of a process: threads, memory allocator, devices."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import subprocess
from contextlib import suppress
from functools import cache

import torch

from solver.discretisation import fusion
from solver.errors import FeatureUnavailable
from solver.parallel import ranks
from solver.run import node

log = logging.getLogger("solver")
COMPILE_SECONDS = 40.0  # for the kernels of a flow with a closure, when none is in torch's cache on disk
SAVED = {"cpu": 6e-7, "cuda": 2e-9}  # seconds a step and point that compiled kernels save, roughly
SMALLEST = 4096  # points; below, calls cost more than arithmetic
VECTORS_OK = "TORCHINDUCTOR_VEC_ISA_OK"
NEWEST_VECTORS = ("-mavx512f", "-mavx512vnni", "-mamx-tile", "-mamx-bf16", "-mamx-int8")  # that torch makes kernels of
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def prepare_process() -> None:
    """One thread a rank, no gradients, float32 that is float32, and an allocator that keeps freed pages.

    cuDNN multiplies float32 with ten bits of mantissa unless told not to: networks would answer otherwise than on CPU.

    glibc returns arrays above 32 MB to the system at every free and faults them in again: several times the cost
    of the arithmetic at 128^3.
    """
    threads = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # a list has a number per nesting level
    torch.set_num_threads(max(int(threads), 1) if threads.isdigit() else 1)
    torch.set_grad_enabled(False)
    ranks.local_rank()  # now that all ranks are here: in a farm of tasks they are not
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    try:
        libc = ctypes.CDLL("libc.so.6")
        for option, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 2**26)):
            libc.mallopt(option, value)
    except (OSError, AttributeError):  # not glibc
        pass


def take_threads(wanted: int | None, comm: ranks.Intracomm | None = None) -> None:
    """Let torch and transforms of this rank take so many threads; 0: `fair_threads`; None: no change. Collective."""
    if wanted is not None:
        torch.set_num_threads(wanted or node.fair_threads(comm))


def is_fused(wanted: str, points: int, steps: float | None, device: str = "cpu") -> bool:
    """Whether `choose_fusion` would compile, without a word."""
    long_enough = points > SMALLEST and (steps is None or points * steps * SAVED[device] > COMPILE_SECONDS)
    return fusion.compiler_available(device) and (wanted == "on" or (wanted == "auto" and long_enough))


def choose_fusion(wanted: str, points: int, steps: float | None, device: str = "cpu") -> bool:
    """Whether to compile kernels, said in a line where it takes time or cannot be.

    Parameters
    ----------
    wanted : ``on``, ``off``, or ``auto``: where there is a compiler, and `steps` on so many `points` of a rank win back
        the time it takes.
    steps : how many there will be; None for many.

    Raises
    ------
    FeatureUnavailable : ``on``, but nothing here can compile for the device.
    """
    missing, remedy = ("C++ compiler", "g++") if device == "cpu" else ("Triton for this GPU", "triton")
    if wanted == "off":
        return False
    if not fusion.compiler_available(device):
        if wanted == "on":
            raise FeatureUnavailable(f"[run] fuse = 'on', but there is no {missing}: use 'auto' or install {remedy}")
        log.info(
            "[run] fuse = 'auto': there is no %s, so kernels are plain torch, and slower: install %s", missing, remedy
        )
        return False
    if not is_fused(wanted, points, steps, device):
        return False
    log.info("compiling kernels, about %.0f s, once; the next run of this kind finds them done", COMPILE_SECONDS)
    trust_compiler()
    return True


@cache
def trust_compiler() -> None:
    """Spare torch its trials of the vectors that a processor has, where the compiler knows the newest of them.

    It builds, and loads in processes of their own, a library for each kind: seconds at every start. What
    TORCHINDUCTOR_VEC_ISA_OK says already stays.
    """
    command = [os.environ.get("CXX", "g++"), *NEWEST_VECTORS, "-fsyntax-only", "-x", "c++", os.devnull]
    if VECTORS_OK not in os.environ and platform.machine() in ("x86_64", "AMD64"):
        with suppress(OSError, subprocess.SubprocessError):
            subprocess.run(command, check=True, capture_output=True, timeout=60)
            os.environ[VECTORS_OK] = "1"
