"""From a case to a finished run folder: hooks, signals, the loop."""

from __future__ import annotations

import functools
import logging
import math
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from solver.analysis.reference import check_reference
from solver.analysis.scalar_flow import check_scalar_references
from solver.discretisation import fusion
from solver.errors import Diverged, PressureSolveError
from solver.files import folder as rundir
from solver.files import lock
from solver.flow.simulation import Simulation
from solver.observers import Hook
from solver.observers.checkpoint import Checkpoint
from solver.observers.health import Health
from solver.observers.progress import ProgressBar, ProgressLines, Way
from solver.observers.series import TimeSeries
from solver.parallel.ranks import from_root
from solver.run import failure, leg
from solver.run.build import Source, build
from solver.run.log import RunLog, tell_end, tell_start
from solver.run.machine import choose_fusion
from solver.run.observed import Observed
from solver.run.rehearsal import compile_together
from solver.run.summary import Outcome
from solver.run.wishes import Wish, Wishing
from solver.terminal import Bar, record

log = logging.getLogger("solver")
EXIT = {"finished": 0, "stopped": 130, "diverged": 3, "laminar": 3}


class StopSignal:
    """In its context, remembers a request to stop until the end of the step; a second SIGINT interrupts.

    A hang-up is such a request too, unless it is ignored, as by ``nohup``.
    """

    def __init__(self) -> None:
        self.received = ""

    def __enter__(self) -> StopSignal:
        hang_up = () if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else (signal.SIGHUP,)
        numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, *hang_up)
        self._previous = {number: signal.signal(number, self._remember) for number in numbers}
        return self

    def __exit__(self, *problem: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _remember(self, number: int, frame: object) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name


def run(
    source: Source,
    out: Path | None,
    steps: int | None,
    restart: Path | None,
    quiet: bool,
    console: Console,
    overwrite: bool = False,
    stop: StopSignal | None = None,
) -> Wishing[int]:
    """Run a case to its end, a signal, or trouble; asks for its steps, and comes to the exit code. Collective.

    Parameters
    ----------
    source : the case, and where it comes from.
    out : run folder; None: one that the case names.
    steps : stop after so many.
    restart : run folder or checkpoint to go on from, `leg.AUTO` for that in `out`.
    quiet : nothing is shown.
    console : where progress and results are shown.
    overwrite : replace the run that is in the folder.
    stop : the signal of several runs in one process; None: one of its own.

    Raises
    ------
    CaseError : the case cannot be run, or not from there.
    RunFolderError : the folder cannot be written, or there is nothing to go on from.
    """
    folder = leg.folder_of(source.case, source.folder, source.name, out, restart)
    with RunLog() as journal, lock.held(folder):
        this = leg.plan(source.case, folder, restart, overwrite)
        if this.done:
            log.info("%s: %s: nothing to do", folder, leg.reached(folder))
            return EXIT[this.done]
        return (yield from run_leg(source, this, steps, quiet, console, journal, stop))


def run_leg(
    source: Source,
    this: leg.Leg,
    steps: int | None,
    quiet: bool,
    console: Console,
    journal: RunLog,
    signals: StopSignal | None = None,
) -> Wishing[int]:
    """What `run` does once it knows where to begin and has its folder for itself. Collective."""
    started, compiled = time.perf_counter(), fusion.compiling.seconds
    case, folder, saved = source.case, this.folder, this.saved
    simulation = build(source, saved, settled=saved is not None and not this.physics)
    this = leg.with_weights(this, getattr(simulation.closure, "facts", {}))
    operators, slabs = simulation.operators, simulation.operators.decomposition
    check_reference(case, source.folder, operators.grid)
    check_scalar_references(case.scalars, source.folder)
    observed = Observed.of(case, simulation, folder)
    if saved:
        observed.restore(saved, simulation, this)
        saved.close()
    points, expected = int(np.prod(operators.local_shape)), steps_left(simulation, case.time.end, steps)
    fusion.enable(choose_fusion(case.run.fuse, points, expected, operators.device.type))
    from_root(slabs.comm, functools.partial(_open, folder, source, simulation, this.fresh))
    journal.open(folder)
    if slabs.is_root:
        tell_start(source, simulation, folder, saved, expected)
    checkpoint = Checkpoint(folder, case, case.output.checkpoint, observed.remembered, simulation.step_count)

    def ended(status: str) -> Outcome:
        wall, compiling = time.perf_counter() - started, fusion.compiling.seconds - compiled
        done = simulation.step_count - checkpoint.start
        outcome = Outcome(case, source.folder, source.name, simulation, status, wall, done, compiling)
        outcome.write(folder, observed, series)
        return outcome

    with nullcontext(signals) if signals else StopSignal() as stop:
        with ExitStack() as context:
            tell_restart(this, simulation)
            compile_together(simulation)
            series = TimeSeries(simulation, folder, case.output.every_steps, observed.columns, this.every_steps)
            health = Health(simulation, case.output.every_steps, case.initial.kind == "wall_turbulence")
            hooks: list[Hook] = [health, *observed.statistics, *observed.others, series, checkpoint]
            if saved is None or this.physics:
                observed.look_at_start(simulation)
            hooks += progress(Way(simulation, case.time.end, steps), quiet, console, context) if slabs.is_root else []
            simulation.timers.reset()  # of what setting up has taken
            with failure.kept(slabs, folder, lambda: ended(leg.FAILED)):
                status = yield from loop(simulation, case.time.end, steps, hooks, stop, checkpoint)
                if status in ("finished", "stopped") and not checkpoint.write(simulation):
                    status = "diverged"
                if status != "diverged":
                    series.finish(simulation)
        outcome = ended(status)
        if slabs.is_root:
            tell_results(outcome, folder, None if quiet else console)
    return 0 if status == "stopped" and not stop.received else EXIT[status]


def tell_restart(this: leg.Leg, simulation: Simulation) -> None:
    """Where a leg begins that is not the first, and why its averages do."""
    if this.saved is None:
        return
    log.info("restarted from step %d, t = %.6g", simulation.step_count, simulation.t)
    if changed := list(this.physics or this.averages):
        log.info("averages begin anew at t = %.6g, since these changed: %s", simulation.t, ", ".join(changed))


def tell_results(outcome: Outcome, folder: Path, console: Console | None) -> None:
    """In the log and, if there is one, on the console (root only)."""
    tell_end(outcome.summary, printed := outcome.lines(folder))
    if console is not None:
        for item in printed:
            console.print(item)


def progress(way: Way, quiet: bool, console: Console, context: ExitStack) -> list[Hook]:
    """Who says how far the run is (root only): the log, and a bar or lines for who waits."""
    if quiet:
        return [ProgressLines(way, record.info)]
    if console.is_terminal:
        return [ProgressLines(way, record.info), ProgressBar(way, context.enter_context(Bar(1.0, 0.0, console)))]
    return [ProgressLines(way, record.info), ProgressLines(way, console.print)]


def loop(
    simulation: Simulation,
    end: float,
    steps: int | None,
    hooks: Sequence[Hook],
    stop: StopSignal,
    checkpoint: Checkpoint,
) -> Wishing[str]:
    """Ask for steps until `end`, `steps` more steps, a hook's word, or a signal; returns the status."""
    last = None if steps is None else simulation.step_count + steps
    while simulation.t < end * (1 - 1e-12) and (last is None or simulation.step_count < last):
        try:
            yield Wish(simulation, end - simulation.t)
            flags = bool(stop.received), checkpoint.is_late
            stopped, checkpoint.overdue = simulation.operators.decomposition.agree_on(*flags)
            with simulation.timers("hooks"):
                word = next((said for hook in hooks if (said := hook(simulation))), None)
        except (Diverged, PressureSolveError) as problem:
            log.error("diverged after step %d, t = %.4g: %s", simulation.step_count, simulation.t, problem)
            return "diverged"
        if word:
            return word
        if stopped:
            stop.received = stop.received or "a signal to another rank"
            record.info("stopped at step %d by %s", simulation.step_count, stop.received)
            return "stopped"
    return "finished" if simulation.t >= end * (1 - 1e-12) else "stopped"


def steps_left(simulation: Simulation, end: float, steps: int | None) -> float | None:
    """About how many steps there will be, at the present limit on dt; None if nothing limits it yet."""
    dt = float(simulation.control(simulation.velocity, None, simulation.nu))
    if not math.isfinite(dt):
        return steps
    left: float = max(end - simulation.t, 0.0) / dt
    return left if steps is None else min(steps, left)


def _open(folder: Path, source: Source, simulation: Simulation, fresh: bool) -> None:
    """Make the run folder and say in it what runs (root only)."""
    if fresh:
        rundir.prepare(folder)
    leg.forget(folder)
    rundir.remove_unfinished(folder)
    op = simulation.operators
    threads, command = torch.get_num_threads(), " ".join(sys.argv)
    facts = rundir.provenance(source.case, op.decomposition.size, threads, str(op.device), command)
    facts |= {"case": source.name, "closure": getattr(simulation.closure, "facts", {})}
    if not fresh and (before := rundir.source_of(folder) or "unknown") != facts["source"]:
        facts["source"] = f"{before.removesuffix('+' + facts['source'])}+{facts['source']}"
    rundir.write_json(folder / "provenance.json", facts)
    for key, target in source.case.files(folder).items():
        origin = source.case.files(source.folder)[key]
        if origin.resolve() != target.resolve():
            rundir.write_atomically(target, functools.partial(shutil.copyfile, origin))
    rundir.write_text(folder / "case.toml", rundir.to_toml(source.case.model_dump(exclude_none=True)))
