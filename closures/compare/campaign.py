"""``solver compare``: run what is missing, judge, report."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markdown import Markdown

from closures.compare import report
from closures.compare.jobs import Ended, Job, execute_all, plan
from closures.compare.references import find, resolve
from closures.compare.runs import Run, group, read, require_one_difference
from closures.compare.timing import as_stored, load, timed_alone
from closures.compare.tuning import Tuned, tune
from closures.compare.verdicts import compare_members
from solver import terminal
from solver.case.case import load_case
from solver.errors import CaseError
from solver.parallel import ranks

QUICK = 0.5  # of the times of the case: averages half as long, from half as late on
SEED_STRIDE = 1009  # between repeats
RANDOM = ("wall_turbulence", "isotropic", "shear_layers")  # initial fields that depend on the seed


def compare(
    paths: Sequence[Path],
    closures: Sequence[str] = (),
    *,
    seeds: int = 1,
    quick: bool = False,
    reference: str | None = None,
    tuned: bool = False,
    out: Path | None = None,
    sets: Sequence[str] = (),
    different_cases: bool = False,
    console: Console | None = None,
) -> Path:
    """Compare closures on a case, or finished runs; returns the folder of the report.

    Parameters
    ----------
    paths : one case, with `closures`; or run folders.
    closures : ``name`` or ``name:option=value``; the first is the baseline, and a single one is held against "none".
    seeds : runs of each closure, from different initial fields.
    quick : halve the times of the case.
    reference : the name of the case's tables, ``filtered-dns[:RUN]``, or a run folder; see `references.find`.
    tuned : also run algebraic models with their constant tuned on the same error.
    out : folder of the report, by default ``runs/compare-<case>``.
    sets : overrides ``key=value`` of the case.
    different_cases : compare runs although their cases differ outside ``[closure]``.

    Raises
    ------
    SolverError : bad input, in one line; a run that diverges or fails is part of the report instead.
    """
    console = console or terminal.console()
    if ranks.world_size() > 1:
        raise CaseError("compare starts processes of its own, one a core: call it without mpirun")
    arguments = {"paths": [str(path) for path in paths], "closures": list(closures), "seeds": seeds, "quick": quick}
    arguments |= {"reference": reference, "tune": tuned, "set": list(sets), "different_cases": different_cases}
    extra: dict[str, Any] = {"failures": [], "tuning": []}
    labels: dict[Path, str] = {}
    if closures:
        source = _only(paths)
        case, files = load_case(source, tuple(sets))  # its files: a run from before may have taken others along
        find(reference, case, files)  # what cannot be judged by should not be found out after the runs
        runs, extra, labels = _campaign(source, closures, seeds, quick, reference, tuned, sets, console)
    else:
        _refuse_for_runs(paths, seeds, quick, tuned, sets)
        runs, files = [read(path) for path in paths], None
    if not different_cases:
        require_one_difference(runs)
    runs = _timed(runs, extra, console) if closures else [as_stored(run) for run in runs]
    comparison = compare_members(group(runs, labels), resolve(reference, runs, files))
    out = out or Path("runs") / f"compare-{runs[0].summary['case']}{'-quick' if quick else ''}"
    record = report.record_of(comparison, "solver " + " ".join(sys.argv[1:]), extra | {"arguments": arguments})
    report.write(comparison, record, out)
    show(report.markdown(record, console.width if console.is_terminal else None), console)
    console.print(f"report: {out / 'report.html'}    data: report.json, table.csv", highlight=False)
    return out


def _timed(runs: list[Run], extra: dict[str, Any], console: Console) -> list[Run]:
    """The runs with the cost of their closures; the report is told how it was measured."""
    told = f" ({beside})" if (beside := load()) else ""
    console.print(f"timing the closures, alone and in turn{told}", highlight=False)
    extra["timing"] = f"each closure timed alone, in turn, after the runs{told}"
    return timed_alone(runs)


def show(text: str, console: Console) -> None:
    """Print a Markdown text, as it is where its tables would not fit or nobody looks at a terminal."""
    fits = max(map(len, text.splitlines()), default=0) <= console.width
    console.print(Markdown(text) if console.is_terminal and fits else text, markup=False, highlight=False)


def _only(paths: Sequence[Path]) -> Path:
    if len(paths) != 1:
        raise CaseError(f"compare: {len(paths)} paths and --closures: give one case, or run folders without --closures")
    return paths[0]


def _refuse_for_runs(paths: Sequence[Path], seeds: int, quick: bool, tuned: bool, sets: Sequence[str]) -> None:
    if len(paths) < 2:
        raise CaseError("compare: give a case with --closures a,b,c, or two or more run folders")
    if seeds != 1 or quick or tuned or sets:
        raise CaseError("compare: --seeds, --quick, --tune and --set make new runs: they go with --closures")


def _campaign(
    source: Path,
    closures: Sequence[str],
    seeds: int,
    quick: bool,
    reference: str | None,
    tuned: bool,
    sets: Sequence[str],
    console: Console,
) -> tuple[list[Run], dict[str, Any], dict[Path, str]]:
    """Runs of every closure and seed, what the report says of their making, and words for their labels."""
    overrides = (*sets, *_quick(source, sets)) if quick else tuple(sets)
    specs = list(dict.fromkeys(closures if len(closures) > 1 else ["none", *closures]))
    searched: list[Tuned] = tune(source, specs, overrides, reference, console) if tuned else []
    jobs = [job for spec in specs for job in repeats(source, spec, overrides, seeds)]
    jobs += [job for t in searched for job in repeats(source, t.spec, overrides, seeds, "tuned")]
    jobs = list({job.folder: job for job in jobs}.values())
    ended = execute_all(jobs, console)
    runs = [e.run for e in ended if e.run is not None]
    if not runs:
        raise CaseError(f"compare: no run came to an end; the first failed with: {ended[0].failure}")
    extra = {"failures": _failures(ended), "tuning": [t.as_dict() for t in searched]}
    return runs, extra, {job.folder: job.word for job in jobs if job.word}


def repeats(source: Path, spec: str, overrides: Sequence[str], seeds: int, word: str = "") -> list[Job]:
    """The jobs of one closure, one for each seed; the first is the case's own.

    Raises
    ------
    CaseError : several seeds for an initial field that has no randomness.
    """
    first = plan(source, spec, overrides, word)
    initial = first.case.initial
    if seeds > 1 and initial.kind not in RANDOM:
        raise CaseError(f"--seeds {seeds}: [initial] kind = '{initial.kind}' has no randomness: leave --seeds out")
    more = (f"initial.seed={initial.seed + i * SEED_STRIDE}" for i in range(1, seeds))
    return [first, *(plan(source, spec, (*overrides, seed), word) for seed in more)]


def _quick(source: Path, sets: Sequence[str]) -> tuple[str, ...]:
    """Overrides that halve the times of a case."""
    case, _ = load_case(source, tuple(sets))
    settings = [f"time.end={QUICK * case.time.end:.6g}"]
    if case.statistics is not None:
        settings.append(f"statistics.start={QUICK * case.statistics.start:.6g}")
    return tuple(settings)


def _failures(ended: Sequence[Ended]) -> list[dict[str, str]]:
    return [{"run": e.job.label, "reason": e.failure} for e in ended if e.run is None]
