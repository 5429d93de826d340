"""What `solver doctor` says of machines that are set up well, and of those that are not."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from solver.run import doctor, facts, machine, node
from solver.run.build import build, source_of
from solver.run.facts import Installed, RankFacts
from tests.grids import operators, random_values
from tests.runs import ROOT

EIGHT = frozenset(map(str, range(8)))
THERE = Installed(
    processor="Some Processor",
    launched=2,
    mpi="Open MPI v5",
    mpirun="/usr/bin/mpirun",
    cuda_aware=True,
    torch="2.13.0+cu130",
    torch_cuda="13.0",
    driver=True,
    ducc="0.42",
    compiler=(True, True),
    vectors=512,
    cache=Path("/tmp/kernels"),
    cache_problem="",
    petsc="3.26.1",
    folder=Path("/scratch"),
    disk=100.0,
    folder_problem="",
    pictures=True,
)


def well(count: int = 2, host: str = "one", **others: object) -> list[RankFacts]:
    """Ranks on a node of eight cores, bound, with a GPU each."""
    own = [frozenset(sorted(EIGHT)[k :: max(count, 2)]) for k in range(count)]
    environment = {"OMP_NUM_THREADS": "1"}
    plain = [RankFacts(k, host, own[k], 8, math.inf, 1, ("GPU",) * count, k, 16.0, environment) for k in range(count)]
    return [replace(rank, **others) for rank in plain]


def said(ranks: list[RankFacts], there: Installed = THERE) -> dict[str, doctor.Line]:
    """The lines that find fault, by what they are about."""
    return {line.what: line for line in doctor.examine(ranks, there) if line.verdict != doctor.OK}


def test_nothing_to_say():
    lines = doctor.examine(well(), THERE)
    assert {line.verdict for line in lines} == {doctor.OK}
    assert not [line for line in lines if line.remedy]
    assert len(lines) == 16
    assert said(well() + [replace(rank, rank=rank.rank + 2) for rank in well(host="two")]) == {}


NO_GPU = {"gpus": (), "gpu": None}
ON_CPU = replace(THERE, driver=False)

# ranks, what is installed; the line, its verdict, and words of value and remedy
CASES = {
    "container": (well(quota=1.5), THERE, "cores", "wrong", "8 that its ranks may use, of which 1.5", "container"),
    "foreign launcher": (well(1), replace(THERE, launched=4), "ranks", "wrong", "4 were started", "mpi4py"),
    "idle cores": (well(1, cores=EIGHT), replace(THERE, launched=0), "ranks", "note", "1", "mpirun -n 8"),
    "too many threads": (well(threads=5), THERE, "oversubscription", "wrong", "10 threads on 8 cores", "threads = 0"),
    "spinning": (well(threads=5), THERE, "waiting", "note", "wait", "mpi_yield_when_idle=1"),
    "one core": (well(cores=frozenset("3")), THERE, "binding", "wrong", "2 ranks share 1", "--bind-to core"),
    "narrow": (well(4, threads=2, cores=frozenset("0")), THERE, "binding", "wrong", "4 ranks share 1", "bind-to"),
    "unbound": (well(cores=EIGHT), THERE, "binding", "note", "none, 8 cores for all", "--bind-to core"),
    "no launcher": (well(), replace(THERE, mpirun=""), "MPI", "note", "not found", "install"),
    "host": (well(), replace(THERE, cuda_aware=False), "MPI reaches GPUs", "note", "no", "NCCL"),
    "torch": (well(**NO_GPU), replace(THERE, torch_cuda=""), "GPU", "wrong", "without CUDA", "pytorch.org"),
    "hidden": (well(**NO_GPU), THERE, "GPU", "wrong", "though there is a driver", "CUDA_VISIBLE_DEVICES"),
    "shared": (well(4, gpus=("A", "B"), gpu=1), THERE, "GPU", "wrong", "up to 4 ranks on one", "at most 2 ranks"),
    "idle": (well(1, gpus=("A", "B")), replace(THERE, launched=1), "GPU", "note", "1 idle", "2 ranks"),
    "triton": (well(), replace(THERE, compiler=(True, False)), "fused kernels", "note", "Triton", "pip install triton"),
    "vectors": (well(**NO_GPU), replace(ON_CPU, vectors=0), "vectors", "wrong", "several times", "rm -r /tmp/kernels"),
    "compiler": (well(**NO_GPU), replace(ON_CPU, compiler=(False, False)), "fused kernels", "note", "C++", "g++"),
    "cache": (well(), replace(THERE, cache_problem="/ cannot be written"), "kernels are kept in", "wrong", "/", "DIR"),
    "no PETSc": (well(), replace(THERE, petsc=""), "PETSc", "note", "not installed", "make petsc"),
    "no pictures": (well(), replace(THERE, pictures=False), "3-D pictures", "note", "no", "pyvista"),
    "memory": (well(memory=0.6), THERE, "memory", "wrong", "0.3 GiB a rank", "fewer ranks"),
    "full": (well(), replace(THERE, disk=0.2), "disk", "wrong", "0.20 GiB free", "make room"),
    "read only": (well(), replace(THERE, folder_problem="/ cannot be written"), "disk", "wrong", "cannot", "--out"),
    "unset": (well(environment={}), THERE, "OMP_NUM_THREADS", "note", "unset", "OMP_NUM_THREADS=1"),
    **{
        name: (well(environment={"OMP_NUM_THREADS": "1", name: value}), THERE, name, "wrong", f"= {value}", word)
        for name, value, word in (
            ("OPENBLAS_NUM_THREADS", "64", "unset"),
            ("MKL_NUM_THREADS", "2", "unset"),
            ("OMP_WAIT_POLICY", "ACTIVE", "passive"),
            ("OMP_PROC_BIND", "close", "unset"),
            ("CUDA_LAUNCH_BLOCKING", "1", "unset"),
            ("CUDA_VISIBLE_DEVICES", "-1", "unset"),
            ("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "1", "unset"),
        )
    },
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_named_with_its_remedy(name):
    ranks, there, what, verdict, value, remedy = CASES[name]
    line = said(ranks, there)[what]
    assert line.verdict == verdict
    assert value in line.value
    assert remedy in line.remedy


def test_ranks_that_differ():
    first, second = well()
    lines = said([replace(first, cores=frozenset("012")), replace(second, cores=frozenset("234"))])
    assert "ranks 0, 1 overlap" in lines["binding"].value
    lines = said([replace(first, threads=2, cores=frozenset("0")), replace(second, cores=frozenset("1"), threads=2)])
    assert "ranks 0, 1 have fewer cores than threads" in lines["binding"].value
    assert "PE=2" in lines["binding"].remedy
    lines = said([first, replace(second, gpus=(), gpu=None)])
    assert "not seen by ranks 1" in lines["GPU"].value
    rows = doctor.differences([first, replace(second, host="two", cores=frozenset({"0,4", "10"}))])
    assert rows[1] == {"rank": "1", "node": "two", "cores": "0,4 10", "threads": "1", "GPU": "1: GPU"}
    assert doctor.differences([first]) == []


def test_a_fair_share_of_cores(monkeypatch):
    halves = [frozenset("0123"), frozenset("4567")]
    assert [node.share(own, halves) for own in halves] == [4, 4]
    assert node.share(EIGHT, [EIGHT] * 3) == 2
    assert node.share(frozenset("0"), [frozenset("0")] * 5) == 1
    assert node.share(EIGHT, [EIGHT] * 2, granted=3.0) == 1
    monkeypatch.setattr(node, "cores", lambda: EIGHT)
    monkeypatch.setattr(node, "quota", lambda: math.inf)
    assert node.fair_threads() == 8


def test_cores_are_counted_once_and_containers_heard(tmp_path, monkeypatch):
    monkeypatch.setattr(node, "SYSTEM", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 4, 5})
    assert node.cores() == {"0", "1", "4", "5"}
    assert node.quota() == math.inf
    for cpu, siblings in {0: "0,4", 1: "1,5", 4: "0,4", 5: "1,5"}.items():
        folder = tmp_path / f"devices/system/cpu/cpu{cpu}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{siblings}\n")
    group = tmp_path / "fs/cgroup"
    group.mkdir(parents=True)
    (group / "cpu.max").write_text("150000 100000\n")
    assert node.cores() == {"0,4", "1,5"}
    assert node.quota() == 1.5
    everything = facts.free_memory()
    (group / "memory.max").write_text(str(2**30))
    (group / "memory.current").write_text(str(2**29))
    assert (everything > 0.5, facts.free_memory()) == (True, 0.5)
    (group / "memory.max").write_text("max\n")
    assert facts.free_memory() > 0.5
    (group / "cpu.max").write_text("max 100000\n")
    assert node.quota() == math.inf


def test_folders_that_cannot_be_written(tmp_path, monkeypatch):
    assert facts.unwritable(tmp_path / "some" / "where") == ""
    (tmp_path / "file").touch()
    assert facts.unwritable(tmp_path / "file" / "below") == f"{tmp_path / 'file'} is a file"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "cannot be written" in facts.unwritable(tmp_path)


def test_the_environment_is_the_one_before_anybody_added_to_it(monkeypatch):
    monkeypatch.setenv("LES_ADDED_LATER", "1")
    assert "PATH" in facts.first_environment()
    assert "LES_ADDED_LATER" not in facts.first_environment()


@pytest.mark.parametrize("name", ["box", "channel", "duct"])
def test_threads_share_a_transform(name):
    """To the bit: each line is transformed by one thread."""
    op = operators(name)
    (f,) = random_values(op, 812_447, 1)
    one = op.to_coefficients(f)
    values, slopes = op.with_derivatives(one, list(op.grid.fourier_axes))
    torch.set_num_threads(2)
    two = op.to_coefficients(f)
    again, others = op.with_derivatives(one, list(op.grid.fourier_axes))
    assert torch.equal(one, two)
    assert torch.equal(values, again)
    assert all(torch.equal(slopes[d], others[d]) for d in slopes)


def test_a_case_takes_threads(monkeypatch):
    small = ("grid.x.n=8", "grid.y.n=9", "grid.z.n=8", "run.fuse=off")
    fields = []
    monkeypatch.setattr(node, "cores", lambda: frozenset("01"))
    monkeypatch.setattr(node, "quota", lambda: math.inf)
    for given, taken in (((), 1), (("run.threads=2",), 2), (("run.threads=0",), 2)):
        torch.set_num_threads(1)
        flow = build(source_of(ROOT / "cases/channel180", (*small, *given), "wale"))
        assert torch.get_num_threads() == taken
        flow.step()
        fields.append(flow.velocity.coefficients[0])
    assert all(torch.allclose(fields[0], f, rtol=0, atol=1e-13) for f in fields[1:])
    machine.take_threads(None)
    assert torch.get_num_threads() == 2
