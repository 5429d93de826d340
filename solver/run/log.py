"""``log.txt`` of a run: what was read, chosen and why; progress, checkpoints, warnings; the end, or how it failed."""

from __future__ import annotations

import io
import json
import logging
import logging.handlers
import sys
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console

from solver.discretisation import fusion
from solver.errors import SolverError
from solver.files.checkpoint_file import Saved
from solver.flow.simulation import Simulation
from solver.parallel import ranks
from solver.run.build import Source
from solver.terminal import log, record

WIDTH = 120  # of tables

_present: ContextVar[RunLog] = ContextVar("present run")


class RunLog:
    """Collects what is said from the start, and keeps it in ``log.txt`` once there is a folder; a context manager.

    The root writes. Another rank adds the traceback of an error of its own, which ends them all.
    """

    def __init__(self) -> None:
        self.path: Path | None = None
        self.early = logging.handlers.MemoryHandler(10_000, flushLevel=sys.maxsize, flushOnClose=False)
        self.file: logging.Handler | None = None

    def __enter__(self) -> RunLog:
        _present.set(self)
        if ranks.is_root():
            self.early.addFilter(self._is_own)
            log.addHandler(self.early)
        return self

    def _is_own(self, record: logging.LogRecord) -> bool:
        """Whether it is this run that says it: several in one process have a context each."""
        return _present.get(self) is self

    def open(self, folder: Path) -> None:
        """The folder is there: write what was said so far, and everything from now on."""
        self.path = folder / "log.txt"
        if ranks.is_root():
            self._open_file(self.path)
            self.early.setTarget(self.file)
            self.early.flush()
            log.removeHandler(self.early)

    def _open_file(self, path: Path) -> None:
        self.file = logging.FileHandler(path, encoding="utf-8")
        self.file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self.file.handleError = lambda record: None  # type: ignore[method-assign]  # a full disk shows up elsewhere
        self.file.addFilter(self._is_own)
        log.addHandler(self.file)

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if problem is not None and self.path is not None:
            self._tell(self.path, problem)
        for handler in filter(None, (self.early, self.file)):
            log.removeHandler(handler)
            with suppress(OSError):  # a full disk again
                handler.close()

    def _tell(self, path: Path, problem: BaseException) -> None:
        """How the run failed: one line for what was foreseen, else the traceback."""
        foreseen = isinstance(problem, SolverError | KeyboardInterrupt)
        if self.file is None and not foreseen:
            self._open_file(path)
        if self.file is not None:
            rank = f" on rank {ranks.world_rank()}" if ranks.world_size() > 1 else ""
            words = "interrupted" if isinstance(problem, KeyboardInterrupt) else f"ended{rank} by an error: {problem}"
            record.error(words, exc_info=None if foreseen else problem)


def tell_start(source: Source, simulation: Simulation, folder: Path, saved: Saved | None, steps: float | None) -> None:
    """What runs, on what, and why so (root only); `steps` are about those to come."""
    case, op, control = source.case, simulation.operators, simulation.control
    facts = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    changed = " with changes" if facts["dirty"] else ""
    record.info("les-solver %s, commit %s%s; %s", facts["version"], facts["commit"], changed, facts["command"])
    record.info("case %s in %s: %s", source.name, source.folder, case.title)
    for key, path in case.files(source.folder).items():
        record.info("read %s = '%s'", key, path)
    options = "".join(f", {name} = {value!r}" for name, value in case.closure.options.items())
    record.info("closure %s%s; forcing %s; nu = %g", case.closure.name, options, case.flow.forcing.kind, case.flow.nu)
    sides = " x ".join(f"{axis.length:.5g}" for axis in op.grid.axes)
    record.info("grid %s, sides %s", op.grid.in_words(), sides)
    machine = facts["machine"]
    record.info(
        "ranks %d, threads of each %d, device %s, %s; %s, %d cores",
        *(facts["ranks"], facts["threads"], facts["device"], case.run.dtype, machine["processor"], machine["cores"]),
    )
    solver = simulation.flow.projection.summary(1).get("pressure", {}).get("solver", "direct")
    record.info("pressure solver %s; kernels %s", solver, "compiled" if fusion.is_enabled() else "plain torch")
    origin = "a checkpoint" if saved else f"[initial] kind = '{case.initial.kind}', seed {case.initial.seed}"
    about = "" if steps is None else f", about {steps:.0f} to come"
    record.info("start from %s at step %d, t = %.6g%s", origin, simulation.step_count, simulation.t, about)
    implicit = "; molecular diffusion along y is implicit" if simulation.flow.implicit else ""
    record.info("dt is limited by %s to begin with%s", control.limit or "nothing", implicit)


def tell_end(summary: Mapping[str, Any], printed: list[Any]) -> None:
    """The closing lines: what was `printed`, and where the time went (root only)."""
    page = io.StringIO()
    console = Console(file=page, width=WIDTH, markup=False, highlight=False, soft_wrap=True)
    for item in printed:
        console.print(item)
    parts = ", ".join(f"{part} {spent:.3g}" for part, spent in summary["milliseconds_per_step"].items())
    console.print(f"ms a step: {parts}")
    if "pressure" in summary:
        console.print(", ".join(f"pressure {key} {value}" for key, value in summary["pressure"].items()))
    refused, memory = summary["guard_interventions"], summary["memory_mib"]
    console.print(f"guard interventions: {refused}; memory {memory:.0f} MiB a rank")
    for line in page.getvalue().splitlines():
        record.info("%s", line.rstrip())
