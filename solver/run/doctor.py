"""What a run on this machine would use, what is wrong with it, and what helps: pure functions of what was found."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from solver.run.facts import Installed, RankFacts, nodes
from solver.run.variables import HURTFUL

OK, NOTE, WRONG = "ok", "note", "wrong"
LEAST_MEMORY, LEAST_DISK = 0.5, 1.0  # GiB: of a rank, of a run


@dataclass(frozen=True)
class Line:
    """One thing, what it is, the verdict, and what helps where that is not "ok"."""

    what: str
    value: str
    verdict: str = OK
    remedy: str = ""


def examine(ranks: Sequence[RankFacts], there: Installed) -> list[Line]:
    """All lines, in the order of what they depend on."""
    return [line for check in CHECKS for line in check(ranks, there)]


def _cores(ranks: Sequence[RankFacts]) -> int:
    """Cores that ranks of one node may use together, and are granted."""
    together = len(frozenset().union(*(rank.cores for rank in ranks)))
    return int(min(together, max(ranks[0].quota, 1.0)))


def _processor(ranks: Sequence[RankFacts], there: Installed) -> Iterator[Line]:
    yield Line("processor", there.processor)
    for host, own in nodes(ranks).items():
        together = len(frozenset().union(*(rank.cores for rank in own)))
        value = f"{host}: {together} that its ranks may use"
        if own[0].quota < together:
            remedy = "ask the container for more processors, or use fewer ranks"
            yield Line("cores", f"{value}, of which {own[0].quota:g} are granted", WRONG, remedy)
        else:
            yield Line("cores", value)


def _ranks(ranks: Sequence[RankFacts], there: Installed) -> Iterator[Line]:
    value = ", ".join(f"{len(own)} on {host}" for host, own in nodes(ranks).items()) if len(ranks) > 1 else "1"
    if there.launched > len(ranks):
        remedy = "mpi4py is not of the launcher's MPI: pip install --force-reinstall --no-binary mpi4py mpi4py"
        yield Line("ranks", f"{value}, though {there.launched} were started: each is alone", WRONG, remedy)
    elif len(ranks) == 1 and (cores := _cores(ranks)) > ranks[0].threads:
        yield Line("ranks", value, NOTE, f"`mpirun -n {cores} solver run ...` uses all {cores} cores")
    else:
        yield Line("ranks", value)


def _threads(ranks: Sequence[RankFacts], _: Installed) -> Iterator[Line]:
    values = [rank.threads for rank in ranks]
    value = str(values[0]) if len(set(values)) == 1 else f"{min(values)} to {max(values)}"
    yield Line("threads a rank", value)
    for host, own in nodes(ranks).items():
        wanted, cores = sum(rank.threads for rank in own), _cores(own)
        if wanted > cores:
            remedy = f"{max(cores // len(own), 1)} threads a rank ([run] threads = 0 finds out), or fewer ranks a node"
            yield Line("oversubscription", f"{host}: {wanted} threads on {cores} cores", WRONG, remedy)
            if own[0].environment.get("OMPI_MCA_mpi_yield_when_idle") != "1":
                yield Line(
                    "waiting",
                    f"{host}: ranks that wait may keep their cores",
                    NOTE,
                    "Open MPI: export OMPI_MCA_mpi_yield_when_idle=1; passive threads: export OMP_WAIT_POLICY=passive",
                )


def _binding(ranks: Sequence[RankFacts], _: Installed) -> Iterator[Line]:
    for host, own in nodes(ranks).items():
        if len(own) == 1:
            continue
        users = Counter(core for rank in own for core in rank.cores)
        alike = len({rank.cores for rank in own}) == 1
        crowded = [rank.rank for rank in own if len(rank.cores) < rank.threads]
        if len(users) < len(own) and own[0].present > sum(name.count(",") + 1 for name in users):
            value = f"{host}: {len(own)} ranks share {len(users)} of its cores"
            yield Line("binding", value, WRONG, "mpirun --bind-to core --map-by core, or --bind-to none")
        elif crowded and not alike:
            value = f"{host}: ranks {_listed(crowded)} have fewer cores than threads"
            threads = max(rank.threads for rank in own)
            yield Line("binding", value, WRONG, f"mpirun --map-by slot:PE={threads} --bind-to core, or --bind-to none")
        elif alike:
            more = len(users) > len(own)
            note = (NOTE, "mpirun --bind-to core keeps caches warm on a node of one's own") if more else (OK, "")
            yield Line("binding", f"{host}: none, {len(users)} cores for all ranks", *note)
        elif shared := [rank.rank for rank in own if any(users[core] > 1 for core in rank.cores)]:
            value = f"{host}: ranks {_listed(shared)} overlap on some cores"
            yield Line(
                "binding", value, WRONG, "mpirun --bind-to core --map-by core, one job a node, or --bind-to none"
            )
        else:
            yield Line("binding", f"{host}: every rank has cores of its own")


def _mpi(ranks: Sequence[RankFacts], there: Installed) -> Iterator[Line]:
    value = f"{there.mpi} (mpirun: {there.mpirun or 'not found'})"
    yield (
        Line("MPI", value) if there.mpirun else Line("MPI", value, NOTE, "install Open MPI or MPICH for several ranks")
    )
    if any(rank.gpus for rank in ranks):
        note = (
            (NOTE, "[run] exchange chooses NCCL, or the host") if len(ranks) > 1 and not there.cuda_aware else (OK, "")
        )
        yield Line("MPI reaches GPUs", "yes" if there.cuda_aware else "no", *note)


def _gpus(ranks: Sequence[RankFacts], there: Installed) -> Iterator[Line]:
    yield Line("torch", there.torch)
    if not any(rank.gpus for rank in ranks):
        if there.driver and not there.torch_cuda:
            remedy = "install torch with CUDA: https://pytorch.org/get-started/locally"
            yield Line("GPU", "none visible to torch, which was built without CUDA", WRONG, remedy)
        elif there.driver:
            remedy = "see nvidia-smi, CUDA_VISIBLE_DEVICES, and whether the driver is older than torch's CUDA"
            yield Line("GPU", "none visible to torch, though there is a driver", WRONG, remedy)
        else:
            yield Line("GPU", "none visible to torch")
        return
    for host, own in nodes(ranks).items():
        taken = Counter(rank.gpu for rank in own if rank.gpu is not None)
        names = ", ".join(own[0].gpus)
        if without := [rank.rank for rank in own if not rank.gpus]:
            value = f"{host}: {names or 'none'}, not seen by ranks {_listed(without)}"
            yield Line("GPU", value, WRONG, "give every rank of the job GPUs, or [run] device = 'cpu'")
        elif max(taken.values()) > 1:
            value = f"{host}: {names}, up to {max(taken.values())} ranks on one"
            yield Line("GPU", value, WRONG, f"at most {len(own[0].gpus)} ranks on this node, or CUDA MPS")
        elif idle := len(own[0].gpus) - len(taken):
            yield Line("GPU", f"{host}: {names}, {idle} idle", NOTE, f"{len(own[0].gpus)} ranks on this node use all")
        else:
            yield Line("GPU", f"{host}: {names}")


def _kernels(ranks: Sequence[RankFacts], there: Installed) -> Iterator[Line]:
    on_gpu = any(rank.gpus for rank in ranks)
    yield Line(
        "transforms", "x and z at once, by torch" if on_gpu else f"ducc0 {there.ducc}; torch where gradients are"
    )
    if there.compiler[on_gpu]:
        yield Line(
            "fused kernels", "Triton" if on_gpu else f"by torch and the C++ compiler, {there.vectors} bits a vector"
        )
        if not on_gpu and not there.vectors:
            remedy = (
                f"install a newer g++ (torch found none of its vectors to work with this one), then rm -r {there.cache}"
            )
            yield Line("vectors", "none that work: kernels take several times as long", WRONG, remedy)
    else:
        remedy = "pip install triton" if on_gpu else "install g++"
        yield Line("fused kernels", f"no {'Triton' if on_gpu else 'C++ compiler'}: plain torch is used", NOTE, remedy)
    if there.cache_problem:
        remedy = "export TORCHINDUCTOR_CACHE_DIR=DIR, one that can be"
        yield Line("kernels are kept in", f"{there.cache}: {there.cache_problem}", WRONG, remedy)
    else:
        yield Line("kernels are kept in", str(there.cache))
    if there.petsc:
        yield Line("PETSc", there.petsc)
    else:
        yield Line("PETSc", "not installed", NOTE, "`make petsc` builds it, for [pressure] solver = 'krylov'")
    yield (
        Line("3-D pictures", "yes")
        if there.pictures
        else Line("3-D pictures", "no", NOTE, "pip install pyvista, for `solver view`")
    )


def _room(ranks: Sequence[RankFacts], there: Installed) -> Iterator[Line]:
    for host, own in nodes(ranks).items():
        if not math.isnan(own[0].memory):
            each = own[0].memory / len(own)
            value = f"{host}: {each:.1f} GiB a rank are free"
            low = (WRONG, "fewer ranks on this node, or end what else runs there") if each < LEAST_MEMORY else (OK, "")
            yield Line("memory", value, *low)
    value = f"{there.disk:.0f} GiB free in {there.folder}"
    if there.folder_problem:
        yield Line("disk", there.folder_problem, WRONG, "--out DIR, where you may write")
    elif there.disk < LEAST_DISK:
        yield Line(
            "disk", f"{there.disk:.2f} GiB free in {there.folder}", WRONG, "make room (`solver clean`), or --out DIR"
        )
    else:
        yield Line("disk", value)


def _environment(ranks: Sequence[RankFacts], _: Installed) -> Iterator[Line]:
    for hurts in HURTFUL:
        values = {rank.environment.get(hurts.name, "") for rank in ranks}
        if bad := sorted(value for value in values if hurts.when(value, ranks)):
            value = f"= {bad[0]}: {hurts.why}" if bad[0] else hurts.why
            yield Line(hurts.name, value, WRONG if bad[0] else NOTE, hurts.remedy)


def _listed(numbers: Sequence[int]) -> str:
    """The first few."""
    return ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")


CHECKS = (_processor, _ranks, _threads, _binding, _mpi, _gpus, _kernels, _room, _environment)


def differences(ranks: Sequence[RankFacts]) -> list[dict[str, str]]:
    """A row for each of several ranks: where it is, its cores, threads and GPU."""
    if len(ranks) == 1:
        return []
    return [
        {
            "rank": str(rank.rank),
            "node": rank.host,
            "cores": _listed_cores(rank.cores),
            "threads": str(rank.threads),
            "GPU": "" if rank.gpu is None else f"{rank.gpu}: {rank.gpus[rank.gpu]}",
        }
        for rank in ranks
    ]


def _listed_cores(cores: frozenset[str]) -> str:
    """Sorted by number, the first few."""
    return " ".join(sorted(cores, key=lambda name: int(name.replace("-", ",").partition(",")[0]))[:8]) + (
        f" ... ({len(cores)})" if len(cores) > 8 else ""
    )
