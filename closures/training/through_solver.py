"""A subgrid model that learns through the solver: its recipe, what it minimises, and its artefact."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from closures.coupling.split_model import subgrid_model
from closures.coupling.transfer import Precision
from closures.coupling.unrolled import check_gradient
from closures.coupling.zero_order_hold import STAGES
from closures.data.sets import Source
from closures.data.windows import Windows, split
from closures.operators.artefact import Card
from closures.operators.domain import same
from closures.training.a_posteriori import APosteriori
from closures.training.begin import weights_of
from closures.training.candidate import write
from closures.training.data_table import DataTable
from closures.training.identity import content_of, identity_of
from closures.training.processes import ALONE, ProcessGroup
from closures.training.stress_network import first_guess, role
from closures.training.study import Prepared
from closures.training.tables import CardTable, LoopTable, OperatorTable, OptimiserTable
from solver.case.case import load_case
from solver.case.table import Table
from solver.errors import CaseError
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
    split : what several processes share: batches, those of torchrun; or each flow, the ranks of mpirun.
    form, precision : see `closures.coupling.subgrid_model.SubgridModel`.
    begin : folder of an artefact whose weights are the first guess.
    """

    case: str
    overrides: tuple[str, ...] = Field(default=(), strict=False)
    steps: int = Field(default=1, ge=1, le=1000)
    frames: int = Field(default=5, ge=1, le=1000)
    loss: Literal["trajectory", "statistics"] = "trajectory"
    segment: int = Field(default=1, ge=1)
    split: Literal["batch", "flow"] = Field(default="batch", exclude_if=lambda split: split == "batch")
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


def prepare(recipe: SolverRecipe, out: Path, data: Path | None, processes: ProcessGroup) -> Prepared:
    """Data, network and objective; `data` replaces the file of the recipe.

    Raises
    ------
    CaseError : the recipe, the case or the data are wrong, or do not belong together.
    """
    source, table = recipe.data.open(data), recipe.solver
    torch.manual_seed(recipe.loop.seed)
    network = first_guess(recipe.operator, table.begin, "[solver]")
    objective = in_flow(recipe, network, source, processes)
    parts = split(source, recipe.data.validation)
    stride, apart = recipe.data.stride, recipe.data.apart
    training, validation = (Windows(source, part, table.frames, stride, apart) for part in parts)
    begun = [weights_of(table.begin)] if table.begin is not None else []
    case, _ = load_case(Path(table.case), table.overrides)
    identity = identity_of(recipe, source.sha256, content_of(case), *begun)

    about: dict[str, Any] = {}

    def save(errors: dict[str, float]) -> Card:
        nu = objective.unrolled.simulation.nu
        return write(out, network, recipe.operator, recipe.card, source, nu, errors, about)

    def look() -> None:
        about.update(role(objective.frames, source))

    return Prepared(objective, training, validation, identity, save, recipe.data.workers, look)


def in_flow(recipe: SolverRecipe, network: nn.Module, source: Source, processes: ProcessGroup = ALONE) -> APosteriori:
    """The objective: the case with `network` in it, its step a share of the interval between frames.

    Raises
    ------
    CaseError : the data are of another grid.
    """
    table, interval = recipe.solver, source.step * recipe.data.stride
    fixed = ("closure={name='none'}", f"time.dt={interval / table.steps!r}", "run.device=cpu")
    case, folder = load_case(Path(table.case), (*table.overrides, *fixed))
    with torch.no_grad():
        plain = build.build(build.Source(case, folder, folder.name))
        check_gradient(plain)
        form, precision = table.form, table.precision
        grid, nu = plain.operators.grid, plain.nu
        model = subgrid_model(network, grid=grid, nu=nu, form=form, precision=precision, calls=STAGES)
        flow = Flow(plain.operators, plain.nu, model, plain.forcing, frame=case.time.frame)
        simulation = Simulation(flow, flow.start(plain.velocity.coefficients), plain.control)
    steps, loss, segment = table.steps, table.loss, table.segment
    objective = APosteriori(simulation, network, steps=steps, loss=loss, segment=segment, group=processes)
    if not same(source.domain.describe(), objective.domain.describe()):
        points = " x ".join(map(str, objective.domain.shape))
        raise CaseError(
            f"[solver] case = '{table.case}': its modes and cells are {points} points, the data have others"
        )
    return objective
