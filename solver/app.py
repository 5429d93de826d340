"""The composition root: from a case to a finished run folder. The only module of `solver` that knows closures exist."""

from __future__ import annotations

import logging
import math
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from solver import fusion, initial, parallel, rundir
from solver.bench import fft_limit
from solver.case import Case, HeldShellsTable, MassFluxTable, PressureGradientTable
from solver.errors import CaseError, RunFolderError
from solver.forcing import Forcing, HeldShells, MassFlux, NoForcing, PressureGradient
from solver.hooks.checkpoint import Checkpoint, Saved, latest, restore, velocity_of
from solver.hooks.health import Health
from solver.hooks.progress import ProgressBar
from solver.hooks.series import TimeSeries
from solver.hooks.snapshots import Snapshots
from solver.hooks.spectra import PlaneSpectra, ShellSpectra
from solver.hooks.statistics import Statistics
from solver.machine import choose_fusion
from solver.operators import Components, Operators
from solver.outcome import Outcome
from solver.parallel import Decomposition
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
    velocity = velocity_of(saved, operators) if saved else initial_field(source, operators)
    finite = all(bool(torch.isfinite(c).all()) for c in velocity)
    if decomposition.agree(not finite):
        raise CaseError(f"[initial] kind = '{case.initial.kind}': the field is not finite; check amplitude, spectrum and the run it comes from")
    closure = create_closure(case, operators)
    control = StepControl(operators, case.time.cfl, case.time.dt, case.time.dt_max or math.inf)
    return Simulation(operators, velocity, case.flow.nu, closure, make_forcing(case, operators), control)


def create_closure(case: Case, operators: Operators):  # noqa: ANN201
    """The closure by name from the registry; None for ``none``."""
    from closures.registry import create

    return create(case.closure.name, grid=operators.grid, nu=case.flow.nu, options=case.closure.options)


def make_forcing(case: Case, operators: Operators) -> Forcing:
    """The forcing a case names."""
    table = case.flow.forcing
    grid = operators.grid
    if isinstance(table, MassFluxTable | PressureGradientTable) and not grid.x.is_fourier:
        raise CaseError(f"[flow.forcing] kind = '{table.kind}' drives the flow along x, which must be a Fourier axis: set [grid.x] kind = 'fourier'")
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
            return initial.wall_turbulence(operators, _bulk(source.case, operators), flow.nu, table.amplitude, table.seed)
        case "shear_layers":
            return initial.shear_layers(operators, table.thickness, table.amplitude, table.seed)
        case "isotropic":
            spectrum = _spectrum(source, table.spectrum) if table.spectrum else None
            return initial.isotropic(operators, table.amplitude, table.peak_wavenumber, spectrum, table.seed)
    if table.run is None:
        raise CaseError("[initial] kind = 'run' needs the key 'run': the run folder or checkpoint to start from")
    return velocity_of(latest(Path(table.run)), operators)


def _bulk(case: Case, operators: Operators) -> float:
    forcing = case.flow.forcing
    if isinstance(forcing, MassFluxTable):
        return forcing.bulk_velocity
    if isinstance(forcing, PressureGradientTable):
        return 15.0 * float(np.sqrt(forcing.gradient * 0.5 * operators.grid.y.length))
    raise CaseError("[initial] kind = 'wall_turbulence' needs a flow driven by [flow.forcing] mass_flux or pressure_gradient")


def _spectrum(source: Source, name: str) -> tuple[np.ndarray, np.ndarray]:
    path = source.folder / name
    if not path.is_file():
        raise CaseError(f"[initial] spectrum = '{name}': no such file beside the case")
    table = rundir.read_reference(path)
    if not {"k", "E"} <= table.keys():
        raise CaseError(f"[initial] spectrum = '{name}': needs the columns k and E")
    return table["k"], table["E"]


class StopSignal:
    """Remembers SIGTERM, SIGUSR1 and SIGINT until the end of the step."""

    def __init__(self) -> None:
        self.received = False
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            signal.signal(number, self._remember)

    def _remember(self, number: int, frame: object) -> None:
        self.received = True


def run(
    source: Source, out: Path | None, steps: int | None, restart: Path | None, quiet: bool, console: Console
) -> int:
    """Run a case to its end, a signal, or trouble; returns the exit code. Collective."""
    case = source.case
    saved = latest(restart) if restart else None
    folder = restart if restart and restart.is_dir() and out is None else rundir.run_folder(case, source.name, out)
    simulation = build(source, saved)
    slabs = simulation.operators.decomposition
    fusion.enable(choose_fusion(case.run.fuse, int(np.prod(simulation.operators.local_shape)), steps))
    _on_root(slabs, lambda: _open(folder, source, simulation, fresh=not (restart and folder == restart)))
    attach_log_file(folder, slabs)
    statistics = averaging_hooks(case, simulation)
    series_hooks = [Snapshots(folder, case.output.snapshot)]
    if simulation.operators.grid.is_box and case.output.spectra > 0:
        series_hooks.append(ShellSpectra(simulation.operators, case.output.spectra))
    parts = [*statistics, *series_hooks]
    checkpoint = Checkpoint(folder, case, case.output.checkpoint, parts)
    if saved:
        restore(saved, simulation, parts)
        log.info("restarted from step %d, t = %.6g", simulation.step_count, simulation.t)
    series = TimeSeries(simulation, folder, case.output.every_steps)
    health = Health(simulation, case.output.every_steps, case.initial.kind == "wall_turbulence")
    bar = ProgressBar(case.time.end, simulation.t, console) if slabs.is_root and not quiet else None
    hooks = [*parts, series, health, checkpoint, *([bar] if bar else [])]
    stop = StopSignal()
    started, first_step = time.perf_counter(), simulation.step_count
    status = loop(simulation, case.time.end, steps, hooks, stop)
    if bar:
        bar.close()
    if status in ("finished", "stopped"):
        checkpoint.write(simulation)
    wall = time.perf_counter() - started
    limit = fft_limit(simulation.operators)
    outcome = Outcome(source.case, source.folder, source.name, simulation, status, wall, simulation.step_count - first_step, limit)
    outcome.write(folder, statistics, series, series_hooks)
    if slabs.is_root and not quiet:
        outcome.show(folder, console)
    return EXIT[status]


def loop(simulation: Simulation, end: float, steps: int | None, hooks: list, stop: StopSignal) -> str:
    """Step until `end`, `steps` more steps, a hook's word, or a signal; returns the status."""
    last = None if steps is None else simulation.step_count + steps
    while simulation.t < end * (1 - 1e-12) and (last is None or simulation.step_count < last):
        simulation.step(longest=end - simulation.t)
        for hook in hooks:
            if status := hook(simulation):
                return status
        if simulation.operators.decomposition.agree(stop.received):
            return "stopped"
    return "finished"


def averaging_hooks(case: Case, simulation: Simulation) -> list[Statistics | PlaneSpectra]:
    """Time averages, if the case asks for them."""
    if case.statistics is None:
        return []
    table, operators = case.statistics, simulation.operators
    if table.start >= case.time.end:
        raise CaseError(f"[statistics] start = {table.start:g} should be before [time] end = {case.time.end:g}")
    width = (case.time.end - table.start) / table.batches
    hooks: list[Statistics | PlaneSpectra] = [Statistics(operators, table.start, width, table.every_steps)]
    if operators.grid.is_channel:
        hooks.append(PlaneSpectra(operators, table.start, width, table.every_steps))
    return hooks


def _open(folder: Path, source: Source, simulation: Simulation, fresh: bool) -> None:
    """Make the run folder and say in it what runs (root only)."""
    if fresh:
        rundir.prepare(folder)
    op = simulation.operators
    facts = rundir.provenance(source.case, op.decomposition.size, torch.get_num_threads(), str(op.device), " ".join(sys.argv))
    rundir.write_json(folder / "provenance.json", facts)
    if source.case.reference:
        given = source.case.reference.model_dump(exclude_none=True)
        for key, path in source.case.reference.files(source.folder).items():
            if path != folder / str(given[key]):
                rundir.write_atomically(folder / str(given[key]), lambda target, path=path: shutil.copyfile(path, target) and None)
    rundir.write_atomically(folder / "case.toml", lambda p: p.write_text(rundir.to_toml(source.case.model_dump(exclude_none=True))) and None)


def _on_root(slabs: Decomposition, action) -> None:  # noqa: ANN001
    """Do something on the root; its failure is everybody's."""
    problem: str | None = None
    if slabs.is_root:
        try:
            action()
        except RunFolderError as error:
            problem = str(error)
    problem = slabs.broadcast(problem)
    if problem:
        raise RunFolderError(problem)


def attach_log_file(folder: Path, slabs: Decomposition) -> None:
    """Copy the log of the root into ``log.txt``."""
    if slabs.is_root:
        handler = logging.FileHandler(folder / "log.txt")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(handler)
