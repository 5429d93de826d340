"""One run of a comparison as a process of its own: planned, resumed, watched, and its failure kept as a result."""

from __future__ import annotations

import os
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
from solver.run import leg
from solver.terminal import Bar

REFRESH_SECONDS = 0.5


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
    if (run := existing(job)) is not None:
        return Ended(job, run, reused=True)
    environment = dict(os.environ) | {"OMP_NUM_THREADS": "1"}
    child = subprocess.run(
        [sys.executable, "-m", "solver", *words(job)], env=environment, capture_output=True, text=True, check=False
    )
    if (run := existing(job)) is None:
        return Ended(job, None, _reason(child.stderr, child.returncode))
    mark_shared(job.folder)
    return Ended(job, run)


def _reason(stderr: str, code: int) -> str:
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


def execute_all(jobs: Sequence[Job], console: Console, workers: int | None = None) -> list[Ended]:
    """Every job, one process a core; on a terminal a bar with the time left, elsewhere a line for each end.

    An interruption reaches the running processes too, which write their checkpoints; called again, they go on.
    """
    workers = workers or len(os.sched_getaffinity(0))
    waiting = threading.Event()
    with Bar(len(jobs), console=console, lines=False) as bar, ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(execute, job) for job in jobs]
        told: set[int] = set()
        try:
            while len(told) < len(jobs):
                for i, future in enumerate(futures):
                    if future.done() and i not in told:
                        told.add(i)
                        _tell(future.result(), console)
                done = sum(1.0 if f.done() else share(j) for f, j in zip(futures, jobs, strict=True))
                running = [j.label for f, j in zip(futures, jobs, strict=True) if f.running()]
                bar.reach(done, "; ".join(running) or "done")
                waiting.wait(REFRESH_SECONDS if len(told) < len(jobs) else 0)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [future.result() for future in futures]


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
