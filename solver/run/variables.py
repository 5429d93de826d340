"""Variables of the environment that slow runs down or mislead them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from solver.run.facts import RankFacts, nodes


@dataclass(frozen=True)
class Variable:
    """A variable of the environment: when its value ("" if unset) hurts these ranks, why, and a remedy."""

    name: str
    when: Callable[[str, Sequence[RankFacts]], bool]
    why: str
    remedy: str


def _more_than_threads(value: str, ranks: Sequence[RankFacts]) -> bool:
    return value.isdigit() and int(value) > ranks[0].threads


def _several(ranks: Sequence[RankFacts]) -> bool:
    return max(len(own) for own in nodes(ranks).values()) > 1


HURTFUL = (
    Variable(
        "OMP_NUM_THREADS",
        lambda value, ranks: not value and _several(ranks),
        "unset: `solver` takes 1 then, other programs under mpirun a thread a core in each rank",
        "export OMP_NUM_THREADS=1",
    ),
    *(
        Variable(
            f"{name}_NUM_THREADS",
            _more_than_threads,
            "numpy's products take more threads than the rank has",
            f"unset {name}_NUM_THREADS",
        )
        for name in ("OPENBLAS", "MKL")
    ),
    Variable(
        "OMP_WAIT_POLICY",
        lambda value, ranks: value.lower() == "active" and (_several(ranks) or ranks[0].threads > 1),
        "threads that wait keep cores busy that others need",
        "export OMP_WAIT_POLICY=passive",
    ),
    Variable(
        "OMP_PROC_BIND",
        lambda value, ranks: value.lower() not in ("", "false") and _several(ranks),
        "threads of several ranks may be bound to the same cores",
        "unset OMP_PROC_BIND: mpirun binds",
    ),
    Variable(
        "CUDA_LAUNCH_BLOCKING",
        lambda value, ranks: value == "1",
        "the host waits for every kernel, and no step can be a graph",
        "unset CUDA_LAUNCH_BLOCKING",
    ),
    Variable(
        "CUDA_VISIBLE_DEVICES",
        lambda value, ranks: value == "-1",
        "hides every GPU",
        "unset CUDA_VISIBLE_DEVICES",
    ),
    Variable(
        "TORCHINDUCTOR_FORCE_DISABLE_CACHES",
        lambda value, ranks: value == "1",
        "kernels are compiled anew by every run",
        "unset TORCHINDUCTOR_FORCE_DISABLE_CACHES",
    ),
)
