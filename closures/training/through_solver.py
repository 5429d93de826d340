"""Train a subgrid model through the solver: recipe and trajectories in, artefact out."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from rich.console import Console
from torch import nn

from closures.coupling.subgrid_model import SubgridModel
from closures.coupling.transfer import Precision
from closures.coupling.unrolled import check_gradient
from closures.coupling.zero_order_hold import STAGES
from closures.data.sets import Source
from closures.data.windows import Windows, split
from closures.operators import artefact
from closures.operators.artefact import Card
from closures.operators.domain import same
from closures.training.a_posteriori import APosteriori
from closures.training.begin import weights_of
from closures.training.candidate import write
from closures.training.fit import Fit
from closures.training.identity import content_of, identity_of
from closures.training.processes import ALONE, ProcessGroup, process_group
from closures.training.recipe import read
from closures.training.stress_network import first_guess, role
from closures.training.tables import CardTable, DataTable, LoopTable, OperatorTable, OptimiserTable
from solver.case.case import load_case
from solver.case.table import Table
from solver.errors import CaseError
from solver.files.folder import to_toml, write_text
from solver.flow.flow import Flow
from solver.flow.simulation import Simulation
from solver.run import build


class SolverTable(Table):
    """``[solver]``: the LES in which the model acts, and what its flow is held against.

    Parameters
    ----------
    case : folder or file, as `solver.case.paths` finds it.
    overrides : of its keys: ``"time.cfl = 1.0"`` and the like.
    steps : of the solver between two frames.
    frames : of a window after the first.
    loss : see `closures.training.a_posteriori.APosteriori`.
    segment : steps kept in memory together in the backward pass.
    form, precision : see `closures.coupling.subgrid_model.SubgridModel`.
    begin : folder of an artefact whose weights are the first guess.
    """

    case: str
    overrides: tuple[str, ...] = Field(default=(), strict=False)
    steps: int = Field(default=1, ge=1, le=1000)
    frames: int = Field(default=5, ge=1, le=1000)
    loss: Literal["trajectory", "statistics"] = "trajectory"
    segment: int = Field(default=1, ge=1)
    form: Literal["stress", "eddy_viscosity"] = "stress"
    precision: Precision = "float32"
    begin: str | None = None


class SolverRecipe(Table):
    """How one subgrid model is trained.

    Parameters
    ----------
    title : one line, for people.
    """

    title: str
    data: DataTable
    operator: OperatorTable
    solver: SolverTable
    optimiser: OptimiserTable = OptimiserTable()
    loop: LoopTable
    card: CardTable


def train(recipe: SolverRecipe | Path, out: Path, data: Path | None = None, console: Console | None = None) -> Card:
    """Train, or go on training, in the folder `out`, and write the artefact there; see `closures.training.offline`.

    Raises
    ------
    CaseError : the recipe, the case or the data are wrong, or do not belong together.
    RunFolderError : `out` cannot be written, or holds the state of another training.
    Diverged : the flow or the gradient is not finite.
    """
    recipe = recipe if isinstance(recipe, SolverRecipe) else read(SolverRecipe, recipe)
    source = recipe.data.open(data)
    with torch.enable_grad(), process_group(recipe.loop.device) as processes:
        torch.manual_seed(recipe.loop.seed)
        network = first_guess(recipe.operator, recipe.solver.begin, "[solver]")
        objective = prepare(recipe, network, source, processes)
        fit = _fit(recipe, objective, source, out, processes)
        if processes.is_root:
            write_text(out / "recipe.toml", to_toml(recipe.model_dump(exclude_none=True)))
        fit.run(console)
        errors = fit.errors()
        if processes.is_root:
            simulation = objective.unrolled.simulation
            about = role(objective.frames, source)
            write(out, network, recipe.operator, recipe.card, source, simulation.nu, errors, about)
        processes.wait()
    return artefact.load(out).card


def prepare(recipe: SolverRecipe, network: nn.Module, source: Source, processes: ProcessGroup = ALONE) -> APosteriori:
    """The objective: the case with `network` in it, its step a share of the interval between frames."""
    table, interval = recipe.solver, source.step * recipe.data.stride
    fixed = ("closure={name='none'}", f"time.dt={interval / table.steps!r}", "run.device=cpu")
    case, folder = load_case(Path(table.case), (*table.overrides, *fixed))
    with torch.no_grad():
        plain = build.build(build.Source(case, folder, folder.name))
        check_gradient(plain)
        form, precision = table.form, table.precision
        grid, nu = plain.operators.grid, plain.nu
        model = SubgridModel(network, grid=grid, nu=nu, form=form, precision=precision, calls=STAGES)
        flow = Flow(plain.operators, plain.nu, model, plain.forcing)
        simulation = Simulation(flow, flow.start(plain.velocity.coefficients), plain.control)
    steps, loss, segment = table.steps, table.loss, table.segment
    objective = APosteriori(simulation, network, steps=steps, loss=loss, segment=segment, group=processes)
    if not same(source.domain.describe(), objective.domain.describe()):
        points = " x ".join(map(str, objective.domain.shape))
        raise CaseError(
            f"[solver] case = '{table.case}': its modes and cells are {points} points, the data have others"
        )
    return objective


def _fit(recipe: SolverRecipe, objective: APosteriori, source: Source, out: Path, processes: ProcessGroup) -> Fit:
    frames, stride, table = recipe.solver.frames, recipe.data.stride, recipe.solver
    parts = split(source, recipe.data.validation)
    training, validation = (Windows(source, part, frames, stride, recipe.data.apart) for part in parts)
    begun = [weights_of(table.begin)] if table.begin is not None else []
    case, _ = load_case(Path(table.case), table.overrides)
    identity = identity_of(recipe, source.sha256, content_of(case), *begun)
    settings = recipe.optimiser, recipe.loop, processes, out, identity, recipe.data.workers
    return Fit(objective, training, validation, *settings)
