"""The composition root: from a case to a finished run folder. The only module of `solver` that knows closures exist."""

from __future__ import annotations

import functools
import logging
import math
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from solver import fusion, initial, parallel, rundir
from solver.bench import fft_limit
from solver.case import Case, HeldShellsTable, MassFluxTable, PressureGradientTable
from solver.channel import ERRORS, ChannelReference
from solver.errors import (
    CaseError,
    Diverged,
    FeatureUnavailable,
    PressureSolveError,
    RunFolderError,
    SolverError,
)
from solver.forcing import Forcing, HeldShells, MassFlux, MassFluxAroundSolids, NoForcing, PressureGradient
from solver.hooks import Hook
from solver.hooks.checkpoint import Checkpoint, Saved, latest, restore
from solver.hooks.forces import Forces
from solver.hooks.health import Health
from solver.hooks.progress import ProgressBar
from solver.hooks.regrid import velocity_of
from solver.hooks.series import TimeSeries
from solver.hooks.snapshots import Snapshots
from solver.hooks.spectra import PlaneSpectra, ShellSpectra
from solver.hooks.statistics import Statistics
from solver.machine import choose_fusion
from solver.obstructed import ObstructedMomentum, flow_around
from solver.operators import Components, Operators
from solver.outcome import Outcome
from solver.parallel import Decomposition
from solver.pressure.tuning import SelfTuning
from solver.projection import ObstructedProjection
from solver.simulation import Simulation
from solver.stepping import StepControl

log = logging.getLogger("solver")
EXIT = {"finished": 0, "stopped": 130, "diverged": 3, "laminar": 3}


@dataclass(frozen=True)
class Source:
    """A validated case, the folder its references are relative to, and its short name."""

    case: Case
    folder: Path
    name: str


def build(source: Source, saved: Saved | None = None) -> Simulation:
    """Everything a case describes, on this rank; from its initial recipe or the fields of a checkpoint.

    Raises
    ------
    CaseError : impossible grid, too many ranks, unknown closure, an initial field that is not finite.
    """
    case = source.case
    grid = case.build_grid()
    decomposition = Decomposition(grid.shape[1], grid.coefficient_shape[0], grid.y.periodic)
    device = parallel.choose_device(case.run.device)
    operators = Operators(grid, decomposition, device, getattr(torch, case.run.dtype))
    momentum, projection = obstructed(source, operators)
    velocity = velocity_of(saved, operators) if saved else initial_field(source, operators)
    finite = all(bool(torch.isfinite(c).all()) for c in velocity)
    if decomposition.agree(not finite):
        origin = "--restart: the checkpoint" if saved else f"[initial] kind = '{case.initial.kind}'"
        raise CaseError(f"{origin}: the field is not finite; check amplitude, spectrum and the run it comes from")
    closure = create_closure(case, operators)
    control = StepControl(operators, case.time.cfl, case.time.dt, case.time.dt_max or math.inf)
    forcing = make_forcing(case, operators, projection)
    return Simulation(
        operators, velocity, case.flow.nu, closure, forcing, control, momentum=momentum, projection=projection
    )


def obstructed(
    source: Source, operators: Operators
) -> tuple[ObstructedMomentum, ObstructedProjection] | tuple[None, None]:
    """Momentum and projection where bodies, open ends or ``[pressure]`` ask for their own; else None, None.

    Raises
    ------
    CaseError : bodies that cannot be; the line names the case.
    """
    case, grid = source.case, operators.grid
    if not (case.solids is not None or grid.is_open or case.pressure.is_iterative):
        return None, None
    try:
        solids = case.build_solids(grid, source.folder)
        return flow_around(operators, case.flow.nu, solids, case.pressure)
    except CaseError as error:
        raise CaseError(f"{source.folder}: {error}") from None


def create_closure(case: Case, operators: Operators):
    """The closure by name from the registry; None for ``none``."""
    from closures.registry import create

    return create(case.closure.name, grid=operators.grid, nu=case.flow.nu, options=case.closure.options)


def make_forcing(case: Case, operators: Operators, projection: ObstructedProjection | None = None) -> Forcing:
    """The forcing a case names; `projection` is that of a flow around solids."""
    table = case.flow.forcing
    grid = operators.grid
    if isinstance(table, MassFluxTable | PressureGradientTable) and not grid.x.periodic:
        raise CaseError(
            f"[flow.forcing] kind = '{table.kind}' drives the flow along x, which must be periodic: "
            "set [grid.x] kind = 'fourier', or lower = upper = 'periodic'"
        )
    if isinstance(table, MassFluxTable) and projection is not None:
        return MassFluxAroundSolids(operators, table.bulk_velocity, projection)
    if isinstance(table, MassFluxTable):
        return MassFlux(operators, table.bulk_velocity)
    if isinstance(table, PressureGradientTable):
        return PressureGradient(operators, table.gradient)
    if isinstance(table, HeldShellsTable):
        if not grid.is_box:
            raise CaseError("[flow.forcing] kind = 'held_shells' needs Fourier axes in x, y and z")
        return HeldShells(operators, table.energies)
    return NoForcing()


def initial_field(source: Source, operators: Operators) -> Components:
    """Velocity coefficients by the recipe of ``[initial]``."""
    table, flow = source.case.initial, source.case.flow
    match table.kind:
        case "rest":
            return initial.rest(operators)
        case "taylor_green":
            return initial.taylor_green(operators, table.amplitude)
        case "wall_turbulence":
            return initial.wall_turbulence(
                operators, _bulk(source.case, operators), flow.nu, table.amplitude, table.seed
            )
        case "shear_layers":
            return initial.shear_layers(operators, table.thickness, table.amplitude, table.seed)
        case "stream":
            speed = float(operators.inflow_speed) if operators.inflow else _bulk(source.case, operators)
            return initial.stream(operators, speed, table.amplitude, table.seed)
        case "isotropic":
            spectrum = _spectrum(source, table.spectrum) if table.spectrum else None
            return initial.isotropic(operators, table.amplitude, table.peak_wavenumber, spectrum, table.seed)
    assert table.run is not None  # the case was validated
    return velocity_of(latest(Path(table.run)), operators)


def _bulk(case: Case, operators: Operators) -> float:
    """Bulk velocity of the turbulent profile a flow starts from."""
    forcing, bulk = case.flow.forcing, 0.0
    if isinstance(forcing, MassFluxTable):
        bulk = forcing.bulk_velocity
    elif isinstance(forcing, PressureGradientTable):
        bulk = 15.0 * float(np.sqrt(max(forcing.gradient, 0.0) * 0.5 * operators.grid.y.length))
    if bulk <= 0 or case.flow.nu == 0:
        raise CaseError(
            f"[initial] kind = '{case.initial.kind}' needs nu > 0 and a flow driven along +x: "
            "[flow.forcing] mass_flux or pressure_gradient, larger than zero"
        )
    return bulk


def _spectrum(source: Source, name: str) -> tuple[np.ndarray, np.ndarray]:
    path = source.folder / name
    if not path.is_file():
        raise CaseError(f"[initial] spectrum = '{name}': no such file beside the case")
    table = rundir.read_reference(path)
    if not {"k", "E"} <= table.keys():
        raise CaseError(f"[initial] spectrum = '{name}': needs the columns k and E")
    return table["k"], table["E"]


class StopSignal:
    """In its context, remembers SIGTERM, SIGUSR1 and SIGINT until the end of the step; a second SIGINT interrupts."""

    def __init__(self) -> None:
        self.received = False

    def __enter__(self) -> StopSignal:
        numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
        self._previous = {number: signal.signal(number, self._remember) for number in numbers}
        return self

    def __exit__(self, *problem: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _remember(self, number: int, frame: object) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = True


def run(
    source: Source, out: Path | None, steps: int | None, restart: Path | None, quiet: bool, console: Console
) -> int:
    """Run a case to its end, a signal, or trouble; returns the exit code. Collective."""
    case = source.case
    folder, fresh = destination(source, out, restart)
    saved = latest(restart) if restart else None
    simulation = build(source, saved)
    operators = simulation.operators
    slabs = operators.decomposition
    check_reference(source, simulation)
    if case.run.fuse == "on" and not fusion.compiler_available():
        raise FeatureUnavailable("[run] fuse = 'on', but there is no C++ compiler: use 'auto' or install g++")
    fusion.enable(choose_fusion(case.run.fuse, int(np.prod(operators.local_shape)), steps))
    statistics = averaging_hooks(case, simulation)
    series_hooks: list[Snapshots | ShellSpectra] = [Snapshots(folder, case.output.snapshot)]
    if operators.grid.is_box and case.output.spectra > 0:
        series_hooks.append(ShellSpectra(operators, case.output.spectra))
    parts: list[Any] = [*statistics, *series_hooks]
    forces = observe_forces(case, simulation)
    parts += forces
    stateful = [*parts, *tuning_of(simulation)]
    if saved:
        restore(saved, simulation, stateful)
    _on_root(slabs, lambda: _open(folder, source, simulation, fresh))
    checkpoint = Checkpoint(folder, case, case.output.checkpoint, stateful, simulation.step_count)
    started, first_step, compiled = time.perf_counter(), simulation.step_count, fusion.compile_seconds()
    with ExitStack() as context:
        context.enter_context(log_file(folder, slabs))
        stop = context.enter_context(StopSignal())
        if saved:
            log.info("restarted from step %d, t = %.6g", simulation.step_count, simulation.t)
        more = {name: column for hook in forces for name, column in hook.columns.items()}
        series = TimeSeries(simulation, folder, case.output.every_steps, more)
        health = Health(simulation, case.output.every_steps, case.initial.kind == "wall_turbulence")
        hooks: list[Hook] = [health, *parts, series, checkpoint]
        if slabs.is_root and not quiet:
            hooks.append(context.enter_context(ProgressBar(simulation, case.time.end, steps, console)))
        status = loop(simulation, case.time.end, steps, hooks, stop)
        if status in ("finished", "stopped") and not checkpoint.write(simulation):
            status = "diverged"
    wall = time.perf_counter() - started
    done = simulation.step_count - first_step
    compiling, limit = fusion.compile_seconds() - compiled, fft_limit(operators)
    outcome = Outcome(case, source.folder, source.name, simulation, status, wall, done, limit, compiling)
    outcome.write(folder, statistics, series, [*series_hooks, *forces])
    if slabs.is_root and not quiet:
        outcome.show(folder, console)
    return EXIT[status]


def loop(simulation: Simulation, end: float, steps: int | None, hooks: Sequence[Hook], stop: StopSignal) -> str:
    """Step until `end`, `steps` more steps, a hook's word, or a signal; returns the status."""
    last = None if steps is None else simulation.step_count + steps
    while simulation.t < end * (1 - 1e-12) and (last is None or simulation.step_count < last):
        try:
            simulation.step(longest=end - simulation.t)
            word = next((said for hook in hooks if (said := hook(simulation))), None)
        except (Diverged, PressureSolveError) as problem:
            log.error("diverged after step %d, t = %.4g: %s", simulation.step_count, simulation.t, problem)
            return "diverged"
        if word:
            return word
        if simulation.operators.decomposition.agree(stop.received):
            return "stopped"
    return "finished"


def destination(source: Source, out: Path | None, restart: Path | None) -> tuple[Path, bool]:
    """The run folder, and whether it is to be made anew: a restart goes on in the folder it comes from."""
    origin = restart
    if restart is not None and restart.is_file():
        origin = restart.parent.parent if (restart.parent.parent / "provenance.json").is_file() else None
    if origin is not None and (out is None or out.resolve() == origin.resolve()):
        return origin, False
    folder = rundir.run_folder(source.case, source.name, out)
    if folder.resolve() == source.folder.resolve():
        raise CaseError(f"--out {folder}: is the folder of the case itself, which a run would replace: choose another")
    return folder, True


def check_reference(source: Source, simulation: Simulation) -> None:
    """Read the reference profiles now: a table that cannot be used should not be found out after the run."""
    reference = source.case.reference
    if reference is None or reference.profiles is None or not simulation.operators.grid.is_channel:
        return
    target = ChannelReference(rundir.read_reference(source.folder / reference.profiles))
    try:
        for name in ERRORS[:5]:
            target.profile(name, np.zeros(1))
        _ = target.re_tau, target.bulk
    except (KeyError, ValueError, IndexError) as error:
        raise CaseError(f"[reference] profiles = '{reference.profiles}': lacks the column {error}") from None


def averaging_hooks(case: Case, simulation: Simulation) -> list[Statistics | PlaneSpectra]:
    """Time averages, if the case asks for them."""
    if case.statistics is None or case.solids is not None:
        return []
    if not simulation.operators.grid.x.is_fourier:
        raise CaseError("[statistics] averages along x, which must be a Fourier axis: remove the table")
    table, operators = case.statistics, simulation.operators
    width = (case.time.end - table.start) / table.batches
    hooks: list[Statistics | PlaneSpectra] = [Statistics(operators, table.start, width, table.every_steps)]
    if operators.grid.is_channel:
        hooks.append(PlaneSpectra(operators, table.start, width, table.every_steps))
    return hooks


def observe_forces(case: Case, simulation: Simulation) -> list[Forces]:
    """Forces on the solids, where there are any; averaged from ``[statistics] start`` on, or over the second half."""
    if case.solids is None or not isinstance(simulation.projection, ObstructedProjection):
        return []
    start = case.statistics.start if case.statistics else 0.5 * case.time.end
    return [Forces(simulation.projection, start, case.solids.coefficients)]


def tuning_of(simulation: Simulation) -> list[SelfTuning]:
    """The pressure solver that learns, if that is the one: what it knows belongs in checkpoints."""
    tuning = getattr(simulation.projection, "tuning", None)
    return [tuning] if tuning is not None else []


def _open(folder: Path, source: Source, simulation: Simulation, fresh: bool) -> None:
    """Make the run folder and say in it what runs (root only)."""
    if fresh:
        rundir.prepare(folder)
    (folder / "summary.json").unlink(missing_ok=True)
    op = simulation.operators
    threads, command = torch.get_num_threads(), " ".join(sys.argv)
    facts = rundir.provenance(source.case, op.decomposition.size, threads, str(op.device), command)
    rundir.write_json(folder / "provenance.json", facts)
    for key, target in source.case.files(folder).items():
        origin = source.case.files(source.folder)[key]
        if origin.resolve() != target.resolve():
            rundir.write_atomically(target, functools.partial(shutil.copyfile, origin))
    rundir.write_text(folder / "case.toml", rundir.to_toml(source.case.model_dump(exclude_none=True)))


def _on_root(slabs: Decomposition, action: Callable[[], None]) -> None:
    """Do something on the root; its failure is everybody's."""
    problem: str | None = None
    if slabs.is_root:
        try:
            action()
        except (SolverError, OSError) as error:
            problem = str(error)
    problem = slabs.broadcast(problem)
    if problem:
        raise RunFolderError(problem)


@contextmanager
def log_file(folder: Path, slabs: Decomposition) -> Iterator[None]:
    """Copy the log of the root into ``log.txt``."""
    if not slabs.is_root:
        yield
        return
    handler = logging.FileHandler(folder / "log.txt", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handler.handleError = lambda record: None  # type: ignore[method-assign]  # a full disk shows up elsewhere
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()
