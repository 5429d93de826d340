"""Whatever carries numbers between ranks, they are the same: MPI of host memory, of tensors, and a process group."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from solver.errors import CaseError, FeatureUnavailable
from solver.parallel import engines
from tests import runs
from tests.parallel.run_engines import FLOWS, NAMES

RANKS = (1, 2, 3, 5)
GPU = torch.device("cuda", 0)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, np.ndarray]]:
    return runs.on_ranks(RANKS, "tests.parallel.run_engines", tmp_path_factory.mktemp("engines"))


@runs.needs_mpirun
@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("engine", NAMES)
def test_every_engine_keeps_the_promises_of_slabs(results, engine, ranks):
    promises = {key: bool(kept) for key, kept in results[ranks].items() if key.startswith(f"promise/{engine}/")}
    assert len(promises) >= 2 * 13
    assert not [key for key, kept in promises.items() if not kept]


@runs.needs_mpirun
@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("flow", FLOWS)
def test_every_engine_gives_the_same_flow(results, flow, ranks):
    """To the bit where two ranks or none add up; more are added in an order that is the library's."""
    size = max(abs(results[1][f"{flow}/mpi/u{i}"]).max() for i in range(3))
    for i in range(3):
        by_mpi, directly, by_group = (results[ranks][f"{flow}/{engine}/u{i}"] for engine in NAMES)
        assert (by_mpi == directly).all()
        assert abs(by_group - by_mpi).max() <= (2e-15 * size if ranks > 2 else 0.0)
        assert abs(by_mpi - results[1][f"{flow}/mpi/u{i}"]).max() <= 1e-12 * size


@runs.needs_mpirun
def test_a_case_names_the_engine_and_the_summary_tells(tmp_path):
    sets = ("run.exchange=process_group", "statistics.start=0.0", "time.end=0.9")
    words = (*(word for one in sets for word in ("--set", one)), "--out", tmp_path / "run", "--quiet")
    case = runs.write_case(tmp_path / "case")
    done = runs.ended(runs.mpirun(2, "-m", "solver", "run", case, *words))
    assert (done.code, done.err) == (0, "")
    assert runs.summary(tmp_path / "run")["exchange"] == "process_group"


@pytest.fixture
def three(monkeypatch):
    """Three ranks on one node, which say where they are; MPI says nothing of GPUs, and torch has NCCL."""
    devices = [0, 1, 2]
    comm = SimpleNamespace(rank=0, size=3, devices=devices)
    comm.allgather = lambda place: [(place[0], device, place[2]) for device in comm.devices]
    monkeypatch.setattr(engines, "is_cuda_aware", lambda: False)
    monkeypatch.setattr(engines.dist, "is_nccl_available", lambda: True)
    monkeypatch.setattr(engines, "ProcessGroup", lambda comm, device: ("group", device))
    return comm


def test_a_gpu_each_talks_by_nccl_and_ranks_that_share_one_through_the_host(three):
    assert engines.choose("auto", GPU, three) == ("group", GPU)
    three.devices = [0, 1, 0]
    found = engines.choose("auto", GPU, three)
    assert isinstance(found, engines.Mpi)
    assert not found.direct
    with pytest.raises(CaseError, match="share a GPU, which NCCL refuses: use exchange = 'mpi'"):
        engines.choose("process_group", GPU, three)
    assert not engines.choose("auto", torch.device("cpu"), three).direct
    assert engines.choose("device_mpi", GPU, three).direct


def test_an_mpi_that_reaches_gpus_is_asked_to(three, monkeypatch):
    monkeypatch.setattr(engines, "is_cuda_aware", lambda: True)
    assert engines.choose("auto", GPU, three).direct
    assert not engines.choose("auto", torch.device("cpu"), three).direct
    assert not engines.choose("mpi", GPU, three).direct


def test_without_nccl_a_process_group_of_gpus_is_refused(three, monkeypatch):
    monkeypatch.setattr(engines.dist, "is_nccl_available", lambda: False)
    with pytest.raises(FeatureUnavailable, match="this torch has no NCCL"):
        engines.choose("process_group", GPU, three)
    assert isinstance(engines.choose("auto", GPU, three), engines.Mpi)


@pytest.mark.parametrize("alone", NAMES)
def test_alone_nothing_is_started(three, alone):
    three.size = 1
    assert isinstance(engines.choose(alone, GPU, three), engines.Mpi)


def test_how_a_library_says_that_it_reaches_gpus(monkeypatch):
    assert not engines.is_cuda_aware()  # the one that runs these tests does not
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(MPIX_Query_cuda_support=lambda: 1))
    assert engines.is_cuda_aware()
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())  # a library without the extension
    assert not engines.is_cuda_aware()
    monkeypatch.setenv("MPICH_GPU_SUPPORT_ENABLED", "1")
    assert engines.is_cuda_aware()
