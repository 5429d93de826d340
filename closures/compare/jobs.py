"""One run of a comparison as a process of its own: planned, resumed, watched, and its failure kept as a result."""

from __future__ import annotations

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from closures.compare.runs import Run, read
from closures.compare.timing import mark_shared
from closures.operators import artefact
from closures.operators.shipped import shipped
from closures.registry import registry
from solver.case.case import Case, load_case
from solver.errors import CaseError, RunFolderError
from solver.files.folder import run_folder, source_digest, source_of
from solver.parallel.slabs import split_evenly
from solver.run import leg
from solver.run.run import EXIT
from solver.terminal import Bar

REFRESH_SECONDS = 0.5
TOGETHER = 8  # runs that are advanced as one; more gain little
SMALL = 100_000  # points up to which calls are what a step costs


@dataclass(frozen=True)
class Job:
    """A case with overrides, the folder its run belongs in, and words that tell it from others."""

    source: Path
    name: str
    closure: str
    overrides: tuple[str, ...]
    case: Case
    folder: Path
    word: str = ""

    @property
    def label(self) -> str:
        """For progress and failures."""
        return f"{self.closure}{f' {self.word}' if self.word else ''}, seed {self.case.initial.seed}"


@dataclass(frozen=True)
class Ended:
    """A job that is over: its run, or why there is none."""

    job: Job
    run: Run | None
    failure: str = ""
    reused: bool = False


def plan(source: Path, spec: str, overrides: Sequence[str], word: str = "") -> Job:
    """A job for a closure ``name`` or ``name:option=value:...``.

    Raises
    ------
    CaseError : the case or the option cannot be read.
    """
    closure, *options = spec.split(":")
    if any("=" not in option for option in options):
        raise CaseError(f"--closures {spec}: should read name or name:option=value, for example smagorinsky:c_s=0.1")
    settings = (*overrides, *(f"closure.{option}" for option in options))
    case, _ = load_case(source, settings, closure)
    name = source.resolve().name if source.is_dir() else source.stem
    return Job(source, name, closure, settings, case, _folder(case, name), word)


def _folder(case: Case, name: str) -> Path:
    """Where the run of a case belongs; a run that other code has made stays, and the new one is put beside it."""
    folder = _own_folder(case, name)
    made = (folder / "provenance.json").is_file()
    return folder if not made or source_of(folder) == source_digest() else folder.with_name(folder.name + _suffix())


def _suffix() -> str:
    return f"-code{source_digest()[:8]}"


def _own_folder(case: Case, name: str) -> Path:
    """One for each case, and for each training of a network."""
    folder, table = run_folder(case, name, None), case.closure
    network = shipped().get(table.name) or table.options.get(registry.ARTEFACT)
    if network is None:
        return folder
    try:
        weights = artefact.read_card(Path(network) / artefact.CARD).weights_sha256
    except artefact.ArtefactError:  # the run will say so
        return folder
    return folder.with_name(f"{folder.name}-{weights[:8]}")


def again(job: Job, *overrides: str) -> Job:
    """The same job with more overrides, in the folder that belongs to it."""
    settings = (*job.overrides, *overrides)
    case, _ = load_case(job.source, settings, job.closure)
    return replace(job, overrides=settings, case=case, folder=_folder(case, job.name))


def existing(job: Job) -> Run | None:
    """The run of exactly this case by exactly this code, if it has come to its end; a trial of a few steps has not."""
    try:
        run = read(job.folder)
    except (RunFolderError, CaseError):
        return None
    same = run.case == job.case and run.provenance.get("source") == source_digest()
    return run if same and leg.has_ended(run.summary, run.case) else None


def words(job: Job) -> list[str]:
    """The command that makes, or goes on with, the run of a job; as one would type it."""
    given = [word for setting in job.overrides for word in ("--set", setting)]
    where = ["--out", str(job.folder), "--restart", str(leg.AUTO), "--quiet"]
    return ["run", str(job.source), "--closure", job.closure, *given, *where]


def execute(job: Job) -> Ended:
    """Take the finished run of a job, or run it in a process of one thread; diverging is a result, not an error."""
    return execute_together([job])[0]


def execute_together(jobs: Sequence[Job]) -> list[Ended]:
    """The same for jobs whose flows differ in their states alone: one process advances them as one."""
    found = {job.folder: existing(job) for job in jobs}
    missing = [job for job in jobs if found[job.folder] is None]
    reasons = _made(missing) if missing else {}
    ended = []
    for job in jobs:
        if (run := found[job.folder]) is not None:
            ended.append(Ended(job, run, reused=True))
        elif (run := existing(job)) is None:
            ended.append(Ended(job, None, reasons[job.folder]))
        else:
            mark_shared(job.folder)
            ended.append(Ended(job, run))
    return ended


def _made(jobs: Sequence[Job]) -> dict[Path, str]:
    """Run jobs in one process; why each has no run, if it has none."""
    environment = dict(os.environ) | {"OMP_NUM_THREADS": "1"}
    command, given = ["-m", "solver", *words(jobs[0])], ""
    if len(jobs) > 1:
        command = ["-m", "solver.run.together"]
        given = json.dumps([[str(j.source), j.closure, list(j.overrides), str(j.folder)] for j in jobs])
    child = subprocess.run(
        [sys.executable, *command], env=environment, input=given, capture_output=True, text=True, check=False
    )
    said = dict(line.split("\t", 1) for line in child.stdout.splitlines() if "\t" in line)
    return {job.folder: said.get(str(job.folder)) or _reason(child.stderr, child.returncode) for job in jobs}


def groups(jobs: Sequence[Job], workers: int) -> list[list[Job]]:
    """Jobs that are advanced as one: flows that differ in the seed, on grids where that pays, if cores would wait."""
    size = min(-(-len(jobs) // workers), TOGETHER)
    alike: dict[str, list[Job]] = {}
    for job in jobs:
        alike.setdefault(_but_for_the_seed(job), []).append(job)
    found = []
    for every in alike.values():
        step = size if math.prod(every[0].case.build_grid().shape) <= SMALL else 1
        parts = split_evenly(len(every), -(-len(every) // step))
        ends = list(itertools.accumulate(parts, initial=0))
        found += [every[a:b] for a, b in itertools.pairwise(ends)]
    return found


def _but_for_the_seed(job: Job) -> str:
    initial = job.case.initial.model_copy(update={"seed": 0})
    return job.word + job.case.model_copy(update={"initial": initial}).model_dump_json()


def _reason(stderr: str, code: int) -> str:
    """Why a run has not ended: by what signal it was stopped, or its last words."""
    if code < 0 or code == EXIT["stopped"]:
        by = signal.Signals(-code).name if code < 0 else "a signal or the time given"
        return f"stopped by {by}; the same command goes on from its last checkpoint"
    lines = [line for line in stderr.splitlines() if line.strip()]
    return lines[-1].removeprefix("solver: ") if lines else f"ended with exit code {code} and no message"


def share(job: Job) -> float:
    """How much of a running job is done, by the last row of its time series."""
    try:
        with (job.folder / "timeseries.csv").open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - 400, 0))
            row = file.read().decode().splitlines()[-1].split(",")
        return min(float(row[1]) / job.case.time.end, 1.0)
    except (OSError, ValueError, IndexError):
        return 0.0


def execute_all(jobs: Sequence[Job], console: Console) -> list[Ended]:
    """Every job, one process a core; on a terminal a bar with the time left, elsewhere a line for each end.

    More jobs than cores share processes, see `groups`.

    An interruption reaches the running processes too, which write their checkpoints; called again, they go on.
    """
    workers = len(os.sched_getaffinity(0))
    waiting = threading.Event()
    with Bar(len(jobs), console=console, lines=False) as bar, ThreadPoolExecutor(workers) as pool:
        shared = [(group, pool.submit(execute_together, group)) for group in groups(jobs, workers)]
        place = {job.folder: (future, k) for group, future in shared for k, job in enumerate(group)}
        futures, told = [place[job.folder][0] for job in jobs], set[int]()
        try:
            while len(told) < len(jobs):
                for i, future in enumerate(futures):
                    if future.done() and i not in told:
                        told.add(i)
                        _tell(future.result()[place[jobs[i].folder][1]], console)
                done = sum(1.0 if f.done() else share(j) for f, j in zip(futures, jobs, strict=True))
                running = [j.label for f, j in zip(futures, jobs, strict=True) if f.running()]
                bar.reach(done, "; ".join(running) or "done")
                waiting.wait(REFRESH_SECONDS if len(told) < len(jobs) else 0)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [future.result()[place[job.folder][1]] for job, future in zip(jobs, futures, strict=True)]


def _tell(ended: Ended, console: Console) -> None:
    if ended.run is None:
        console.print(f"{ended.job.label}: failed: {ended.failure}", highlight=False, markup=False)
        return
    seconds = "taken from before" if ended.reused else f"{ended.run.summary['wall_seconds']:.0f} s"
    console.print(
        f"{ended.job.label}: {ended.run.status}, {seconds}, {ended.job.folder}", highlight=False, markup=False
    )
    if ended.job.folder.name.endswith(_suffix()) and not ended.reused:
        other = ended.job.folder.name.removesuffix(_suffix())
        console.print(f"{ended.job.label}: {other} was made by other code and is left as it is", highlight=False)
