"""From a case to a simulation. The only module of `solver` that knows closures exist."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from solver.case.case import Case, load_case
from solver.case.case_tables import HeldShellsTable, MassFluxTable, PressureGradientTable
from solver.discretisation.calculus import Components, Operators
from solver.discretisation.gradient import VelocityGradient
from solver.errors import CaseError
from solver.files.checkpoint_file import Saved, latest
from solver.files.folder import case_of_run
from solver.files.reference_files import read_complete
from solver.files.regrid import velocity_of
from solver.flow import initial
from solver.flow.around_solids import flow_around
from solver.flow.closure import Closure
from solver.flow.flow import Flow
from solver.flow.forcing import Forcing, MassFlux, PressureGradient
from solver.flow.graph import choose_recorder
from solver.flow.held_shells import HeldShells
from solver.flow.momentum import Momentum
from solver.flow.projection import Projection
from solver.flow.simulation import Simulation
from solver.flow.time_step import StepControl
from solver.flow.wall_stress import WallStress
from solver.parallel import engines, ranks
from solver.parallel.communicator import Communicator
from solver.parallel.slabs import Slabs
from solver.pressure.learned import Learned, LearnedFactory
from solver.pressure.poisson import Poisson
from solver.run.carried import scalars_of, with_scalars
from solver.run.machine import take_threads
from solver.run.stiffness import is_implicit


@dataclass(frozen=True)
class Source:
    """A validated case, the folder its references are relative to, and its short name."""

    case: Case
    folder: Path
    name: str

    @property
    def file(self) -> Path:
        """Where the case was read from."""
        alone = self.folder / f"{self.name}.toml"
        return alone if alone.is_file() else self.folder / "case.toml"


def source_of(case: Path, overrides: Sequence[str] = (), closure: str | None = None) -> Source:
    """The case at `case`, a folder, a file, a run, or the name of one that comes with the solver.

    Parameters
    ----------
    overrides : as after ``--set``: ``"grid.x.n=64"``.
    closure : its name, in place of that of the case.

    Raises
    ------
    CaseError : no such case, or one that cannot be; one line with key, file and remedy.
    """
    parsed, folder = load_case(case, tuple(overrides), closure)
    return Source(parsed, folder, case_of_run(case) or (case.resolve().name if case.is_dir() else case.stem))


def build(
    source: Source, saved: Saved | None = None, settled: bool = False, comm: ranks.Intracomm | None = None
) -> Simulation:
    """Everything a case describes, on this rank; from its initial recipe or the fields of a checkpoint.

    Parameters
    ----------
    source : the case.
    saved : a checkpoint.
    settled : the checkpoint is of the same flow, whose velocity is taken as it is.
    comm : the ranks that share the flow; the world by default.

    Raises
    ------
    CaseError : impossible grid, too many ranks, unknown closure, an initial field that is not finite.
    """
    case = source.case
    take_threads(case.run.threads, comm)
    grid = case.build_grid()
    device = ranks.choose_device(case.run.device)
    communicator = Communicator(comm, engines.choose(case.run.exchange, device, comm))
    decomposition = Slabs(grid.shape[1], grid.coefficient_shape[0], grid.y.periodic, communicator)
    operators = Operators(grid, decomposition, device, getattr(torch, case.run.dtype), engine=case.run.transforms)
    momentum, projection = obstructed(source, operators)
    velocity = velocity_of(saved, operators) if saved else initial_field(source, operators)
    finite = all(bool(torch.isfinite(c).all()) for c in velocity)
    if decomposition.agree(not finite):
        origin = "--restart: the checkpoint" if saved else f"[initial] kind = '{case.initial.kind}'"
        raise CaseError(f"{origin}: the field is not finite; check amplitude, spectrum and the run it comes from")
    closure = create_closure(case, operators)
    implicit = is_implicit(case, operators, velocity, saved if settled else None)
    dt_max, frame = case.time.dt_max or math.inf, case.time.frame
    control = StepControl(operators, case.time.cfl, case.time.dt, dt_max, implicit=implicit, frame=frame)
    forcing = make_forcing(case, operators, projection)
    if case.wall_model.acts:
        momentum = Momentum(VelocityGradient(operators), case.flow.nu, wall_stress=wall_stress(case, operators))
    carried = scalars_of(case, closure)
    flow = Flow(operators, case.flow.nu, closure, forcing, momentum, projection, implicit, carried, frame)
    state = with_scalars(flow.start(velocity, settled), case, operators, saved)
    return Simulation(flow, state, control, choose_recorder(case.run.graph, flow))


def obstructed(source: Source, operators: Operators) -> tuple[Momentum, Projection] | tuple[None, None]:
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
        return flow_around(operators, case.flow.nu, solids, case.pressure, learned_in(source.folder))
    except CaseError as error:
        raise CaseError(f"{source.file}: {error}") from None


def learned_in(folder: Path) -> LearnedFactory:
    """Finds what ``[pressure] artefact`` names: shipped, or in a folder beside the case."""

    def find(artefact: str, poisson: Poisson) -> Learned:
        from closures.pressure_nets.assemble import assemble

        return assemble(artefact, folder, poisson)

    return find


def create_closure(case: Case, operators: Operators) -> Closure | None:
    """The closure by name from the registry; None for ``none``."""
    from closures.registry.registry import create

    return create(case.closure.name, grid=operators.grid, nu=case.flow.nu, options=case.closure.options)


def wall_stress(case: Case, operators: Operators) -> WallStress:
    """The wall model by name from the registry, on the walls of a case.

    Raises
    ------
    CaseError : unknown name or option, a flow without viscosity.
    """
    from closures.registry.wall_models import create

    table, nu = case.wall_model, case.flow.nu
    if nu == 0:
        raise CaseError("[wall_model] needs nu > 0 in [flow]: there is no friction without viscosity")
    model = create(table.name, grid=operators.grid, nu=nu, options=table.options, filter_time=table.filter)
    return WallStress(operators, model, table.height_on(operators.grid), nu)


def make_forcing(case: Case, operators: Operators, projection: Projection | None = None) -> Forcing:
    """The forcing a case names; `projection` is that of a flow around solids.

    Raises
    ------
    CaseError : the grid cannot be driven like that.
    """
    table = case.flow.forcing
    grid = operators.grid
    if isinstance(table, MassFluxTable | PressureGradientTable) and not grid.x.periodic:
        raise CaseError(
            f"[flow.forcing] kind = '{table.kind}' drives the flow along x, which must be periodic: "
            "set [grid.x] kind = 'fourier', or lower = upper = 'periodic'"
        )
    if isinstance(table, MassFluxTable):
        return MassFlux(operators, table.bulk_velocity, projection.response() if projection else None)
    if isinstance(table, PressureGradientTable):
        return PressureGradient(operators, table.gradient)
    if isinstance(table, HeldShellsTable):
        if not grid.is_box:
            raise CaseError("[flow.forcing] kind = 'held_shells' needs Fourier axes in x, y and z")
        return HeldShells(operators, table.energies)
    return Forcing()


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
    return velocity_of(latest(Path(table.run), operators.decomposition.comm), operators)


def _bulk(case: Case, operators: Operators) -> float:
    """Bulk velocity of the turbulent profile a flow starts from, negative towards -x."""
    forcing, bulk = case.flow.forcing, 0.0
    if isinstance(forcing, MassFluxTable):
        bulk = forcing.bulk_velocity
    elif isinstance(forcing, PressureGradientTable):
        grid = operators.grid
        height = grid.reach_of_walls(1) if 1 in grid.walls else 0.5 * grid.y.length
        bulk = math.copysign(15.0 * math.sqrt(abs(forcing.gradient) * height), forcing.gradient)
    if bulk == 0 or case.flow.nu == 0:
        raise CaseError(
            f"[initial] kind = '{case.initial.kind}' needs nu > 0 and a flow driven along x: "
            "[flow.forcing] mass_flux or pressure_gradient, other than zero"
        )
    return bulk


def _spectrum(source: Source, name: str) -> tuple[np.ndarray, np.ndarray]:
    path = source.folder / name
    if not path.is_file():
        raise CaseError(f"[initial] spectrum = '{name}': no such file beside the case")
    table = read_complete(path, ("k", "E"))
    if (table["k"] < 0).any() or (table["E"] < 0).any():
        raise CaseError(f"[initial] spectrum = '{name}': k and E should not be negative: repair the file")
    given = (table["k"] > 0) & (table["E"] > 0)  # it is interpolated in logarithms and zero beyond its ends
    return table["k"][given], table["E"][given]
