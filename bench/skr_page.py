"""The page of `bench/skr.py`: its records as tables.

`page` depends on the records alone, so a test can hold bench/skr.md against bench/skr.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Record = dict[str, Any]
Methods = Mapping[str, Mapping[int, Record]]  # by name and ranks

HEAD = """\
# Krylov recycling against everything else

Made by `bench/skr.py`, which says how. Every method solves the same samples to a true relative residual of 1e-8.
Milliseconds are processor time a sample on {machine}: its two cores were shared with other work, so wall clock would
measure the neighbours. *Warm* is the second half of a rank's share: the rate of a long sequence, when a recycled
space, a symbolic factorisation or the factorisation of a matrix that all samples share is there already; it decides
which method is the fastest. On two ranks both solve samples of their own, and a sample's time is half of a rank's;
only methods that on one rank solve every sample, in at most ten times the time of the fastest, are run there, and of
these not all at the largest sizes. A place left empty was not measured.
"""
WORDS = """\
## In plain words

- **Eigenvectors carried from system to system** win where all samples share a few small eigenvalues far from the
  rest: *inclusions*, sixteen balls that conduct 10^4 times better, at the same places in every random medium.
  Incomplete Cholesky and multigrid keep these eigenvalues, fast transforms are worse still, factors fill; deflation
  learns them in four systems and is then twice as fast as the best of the others.
- **Solutions carried over** win where few numbers make a sample: *thermal* (two numbers and one matrix: everything is a
  combination of two solutions) and *sweep* in two dimensions (one medium, the wave number varies: after some twenty
  systems the best combination is nearly the solution, and the gain over a factorisation grows with the grid). Sorting
  harms here: along a sorted path every guess extrapolates.
- **Nothing carried over** wins everywhere else. Darcy, Poisson and definite Helmholtz problems on a box are solved by
  conjugate gradients around an inverse by fast transforms, in ten steps or one, at any size. Without these, a sparse
  factorisation (2-D), multigrid or plain conjugate gradients with ICC still are faster than SKR with anything.
- **Indefinite Helmholtz problems in three dimensions** stay hard: a factorisation works as long as it fits; deflated
  restarts (`fresh+fft`) are the alternative, and the further the wave number grows, the more often they stop short.
  More eigenvalues are small than twenty vectors hold, so carrying these on does not help; a larger space does
  (`[solve] subspace = 80`, `recycle = 40` in a recipe): at 46^3 (*narrow*, a band of 1 % in the wave number) it solves
  a system in a tenth of the time that a factorisation takes (*indefinite*, same size).
- **The published factors** are those over GMRES(40). With the released generator's matrix they come out as published,
  mostly because GMRES(40) stops at its cap of 10,000 steps without a solution; deflated restarts earn them, not the
  carrying over. With the right, symmetric matrix the factor without a preconditioner is about seven at 10^4 unknowns
  and grows with the grid; preconditioners shrink it, and a step of GCRO-DR costs several of GMRES(40).
- **Counts need a warm start**: a chain's first system is solved afresh, and the next three are on the way down. Means
  over a handful of systems, or over a path sorted among a handful, come out a fifth too high.

Defaults (`method = "auto"`), none of which needs PETSc: `cg+fft` for Darcy, 3-D Poisson and definite Helmholtz;
`direct` for 2-D Poisson; `direct+guess` (2-D) and `cg+jacobi+guess` (3-D) for thermal; `direct+guess` for a sweep of
one medium in a plane too; `direct` for other indefinite Helmholtz problems, because deflated restarts leave some
systems in three dimensions unsolved.
"""


def read(file: Path) -> list[Record]:
    """The records measured so far."""
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else []


def solved(record: Record) -> bool:
    """Whether there is a time, and every sample reached the tolerance."""
    return "seconds" in record and record["residual"] <= 1.01 * record["tolerance"]


def warm(record: Record) -> float:
    """Milliseconds a sample once the sequence is under way."""
    return 1e3 * float(record["late_seconds"])


def kind(name: str) -> str:
    """What a method carries from system to system: "solutions", "vectors", or "nothing" but its set-up."""
    if name.endswith("+guess"):
        return "solutions"
    return "vectors" if name.partition("+")[0] in ("gcrodr", "skr", "rcg") else "nothing"


def fastest(methods: Methods, carried: str | None = None, ranks: int = 1) -> tuple[str, float] | None:
    """The fastest method of a case, of those that carry this, and its milliseconds."""
    times = {
        name: warm(by_ranks[ranks])
        for name, by_ranks in methods.items()
        if ranks in by_ranks and solved(by_ranks[ranks]) and carried in (None, kind(name))
    }
    return min(times.items(), key=lambda item: item[1]) if times else None


def by_case(records: Iterable[Record]) -> dict[str, dict[str, dict[int, Record]]]:
    """Records by case, method and ranks; families in the order of the alphabet, each from small to large."""
    found: dict[str, dict[str, dict[int, Record]]] = {}
    for r in sorted(records, key=lambda r: (r["case"].split("-")[0], r["case"][-3:], r["case"])):
        found.setdefault(r["case"], {}).setdefault(r["method"], {})[r["ranks"]] = r
    return found


def page(records: list[Record]) -> str:
    """The whole page, Markdown."""
    cases = by_case(records)
    plain = {case: methods for case, methods in cases.items() if not case.startswith("weak")}
    weak = {case: methods for case, methods in cases.items() if case.startswith("weak")}
    machine = next((r["machine"] for r in records if "machine" in r), "")
    parts = [
        HEAD.format(machine=machine),
        summary(plain),
        WORDS,
        regime(weak),
        *(table(c, m) for c, m in plain.items()),
    ]
    return "\n".join(part for part in parts if part)


def summary(cases: Mapping[str, Methods]) -> str:
    """Who wins: the fastest of each kind on one rank, and what recycling gains."""
    lines = [
        "## Who wins",
        "",
        "| family | unknowns | nothing carried over | vectors recycled | solutions recycled | gain |",
    ]
    lines.append("| :-- | --: | :-- | :-- | :-- | --: |")
    for case, methods in cases.items():
        best = [fastest(methods, carried) for carried in ("nothing", "vectors", "solutions")]
        overall = fastest(methods)
        if overall is None:
            continue
        cells = [f"`{b[0]}` {milliseconds(b[1])}" if b else "" for b in best]
        cells = [f"**{cell}**" if b == overall else cell for cell, b in zip(cells, best, strict=True)]
        recycling = [b[1] for b in best[1:] if b]
        gain = f"{best[0][1] / min(recycling):.2g}" if best[0] and recycling else ""
        lines.append(f"| {case.rpartition('-')[0]} | {unknowns(methods)} | {' | '.join(cells)} | {gain} |")
    lines += [
        "",
        "Warm milliseconds a sample on one rank; the gain is the time without recycling over the time with it.",
        "",
    ]
    return "\n".join(lines)


def regime(cases: Mapping[str, Methods]) -> str:
    """GMRES(40) against SKR with the preconditioners of the paper."""
    lines = ["## The published comparison: GMRES(40) with weak preconditioners", ""]
    lines += ["| matrix | unknowns | preconditioner | GMRES(40) | ms | SKR, warm | ms | fewer iterations | less time |"]
    lines += ["| :-- | --: | :-- | --: | --: | --: | --: | --: | --: |"]
    for case, methods in cases.items():
        for name in methods:
            krylov, _, preconditioner = name.partition("+")
            peer = methods.get(name.replace("gmres", "skr"), {}).get(1, {})
            record = methods[name].get(1, {})
            if krylov != "gmres" or "seconds" not in record or "seconds" not in peer:
                continue
            row = [case.split("-")[1], unknowns(methods), preconditioner or "none", steps(record, "late_iterations")]
            row += [milliseconds(warm(record)), steps(peer, "late_iterations"), milliseconds(warm(peer))]
            ratio = record["late_iterations"] / peer["late_iterations"]
            row += [f"{'' if solved(record) else '> '}{ratio:.1f}", f"{warm(record) / warm(peer):.1f}"]
            lines.append(f"| {' | '.join(row)} |")
    others = [
        f"{c.removeprefix('weak-')} {', '.join(_with_time(m, n) for n in ('cg', 'cg+fft') if n in m)}"
        for c, m in cases.items()
        if "cg" in m
    ]
    lines += ["", f"Beside them, milliseconds: {'; '.join(others)}." if others else "", ""]
    return "\n".join(lines) if cases else ""


def _with_time(methods: Methods, name: str) -> str:
    record = methods[name].get(1, {})
    return f"`{name}` {milliseconds(warm(record))}" if solved(record) else f"`{name}` failed"


def table(case: str, methods: Methods) -> str:
    """Everything about one case, the fastest first."""
    one = {name: by_ranks.get(1) or next(iter(by_ranks.values())) for name, by_ranks in methods.items()}
    best = fastest(methods)
    lines = [f"## {case}", "", f"{unknowns(methods)} unknowns.", ""]
    lines += ["| method | iterations | warm | ms, 1 rank | warm | ms, 2 ranks | warm | samples |"]
    lines += ["| :-- | --: | --: | --: | --: | --: | --: | --: |"]
    for name in sorted(one, key=lambda n: (not solved(one[n]), warm(one[n]) if solved(one[n]) else 0.0)):
        row = [name, steps(one[name], "iterations"), steps(one[name], "late_iterations")]
        for ranks in (1, 2):
            record = methods[name].get(ranks, {})
            if "failure" in record:
                row += [str(record["failure"]), ""]
            else:
                row += [milliseconds(1e3 * record["seconds"]), milliseconds(warm(record))] if record else ["", ""]
        if best and name == best[0]:
            row[4] = f"**{row[4]}**"
        lines.append(f"| {' | '.join(row)} | {one[name].get('samples', '')} |")
    return "\n".join([*lines, ""])


def steps(record: Record, which: str) -> str:
    """Iterations, and the residual where that is all there is to say."""
    if which not in record:
        return ""
    count = f"{record[which]:.0f}" if record[which] >= 9.95 or record[which] == 0 else f"{record[which]:.1f}"
    return count if solved(record) else f"{count}, residual {record['residual']:.0e}"


def unknowns(methods: Methods) -> str:
    """How many, of whichever record says it."""
    return next((str(r["unknowns"]) for m in methods.values() for r in m.values() if "unknowns" in r), "?")


def milliseconds(value: float) -> str:
    """Three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
