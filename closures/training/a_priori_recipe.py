"""The recipe of a training a priori: which filtered flows, on which grids, and what counts."""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import Field, model_validator

from closures.data.folder import member
from closures.data.windows import TrajectoryFiles, domain_of, split
from closures.operators.artefact import Card
from closures.operators.domain import Domain
from closures.training.a_priori import APriori, OnGrid, Weights
from closures.training.begin import weights_of
from closures.training.candidate import write
from closures.training.identity import content_of, identity_of
from closures.training.stress_frames import StressFrames
from closures.training.stress_network import first_guess, largest_answer
from closures.training.study import Prepared
from closures.training.tables import CardTable, LoopTable, OperatorTable, OptimiserTable
from solver.case.case import load_case
from solver.case.table import Table


class APrioriTable(Table):
    """``[a_priori]``: filtered flows with their subgrid stress, one set a grid.

    Parameters
    ----------
    case : the flow; its numbers of points are replaced by those of each grid.
    overrides : of its keys.
    folder : of the sets, as `solver generate` makes it.
    grids : names of the sets whose fields and stresses are learned from.
    profiles : names of sets, or of their statistics, whose mean profiles networks with a mean part learn from as well.
    frames : of one sample, whose statistics are compared.
    validation : share of the trajectories that choose the best weights, of those that are not kept for tests.
    stress, drain, mean : weights of the errors, see `closures.training.a_priori.APriori`.
    begin : folder of an artefact whose weights are the first guess.
    """

    case: str
    overrides: tuple[str, ...] = Field(default=(), strict=False)
    folder: str
    grids: tuple[str, ...] = Field(strict=False, min_length=1)
    profiles: tuple[str, ...] = Field(default=(), strict=False)
    frames: int = Field(default=4, ge=1)
    validation: float = Field(default=0.2, gt=0, lt=1)
    stress: float = Field(default=0.3, ge=0)
    drain: float = Field(default=1.0, ge=0)
    mean: float = Field(default=1.0, ge=0)
    begin: str | None = None


class APrioriRecipe(Table):
    """How one model of the stress is trained a priori.

    Parameters
    ----------
    title : one line, for people.
    """

    title: str
    operator: OperatorTable
    a_priori: APrioriTable
    optimiser: OptimiserTable = OptimiserTable()
    loop: LoopTable
    card: CardTable

    @model_validator(mode="after")
    def _one_grid_at_a_time(self) -> APrioriRecipe:
        if self.loop.batch != 1:
            raise ValueError("[loop] batch: a step takes one sample of one grid: use batch = 1 and [a_priori] frames")
        return self


def prepare(recipe: APrioriRecipe, out: Path, data: Path | None) -> Prepared:
    """Data, network and objective; `data` replaces the folder of the recipe.

    Raises
    ------
    CaseError : the recipe, the case or the data are wrong, or do not belong together.
    """
    table, folder = recipe.a_priori, data or Path(recipe.a_priori.folder)
    torch.manual_seed(recipe.loop.seed)
    network = first_guess(recipe.operator, table.begin, "[a_priori]")
    files = [TrajectoryFiles(member(folder, name)) for name in table.grids]

    def on_grid(domain: Domain, path: Path) -> OnGrid:
        return OnGrid(table.case, table.overrides, domain, path, network)

    grids = {file.domain.shape: on_grid(file.domain, file.path) for file in files}
    profiles = [(on_grid(domain_of(path), path), path) for path in (member(folder, name) for name in table.profiles)]
    objective = APriori(list(grids.values()), network, Weights(table.stress, table.drain, table.mean), profiles)
    parts = [split(file, table.validation) for file in files]
    training, validation = (
        StressFrames([(file, part[k]) for file, part in zip(files, parts, strict=True)], table.frames) for k in (0, 1)
    )
    case, _ = load_case(Path(table.case), table.overrides)
    begun = [weights_of(table.begin)] if table.begin is not None else []
    sums = [file.sha256 for file in files]
    identity = identity_of(recipe, sums, content_of(case), *begun)

    def save(errors: dict[str, float]) -> Card:
        pairs = [(grids[file.domain.shape], file) for file in files]
        largest = max(largest_answer(grid.model, grid.frames, file) for grid, file in pairs)
        about = {"scaling": None, "step": 0.0, "largest_answer": largest or None, "grid": None}  # of several grids
        return write(out, network, recipe.operator, recipe.card, files[0], case.flow.nu, errors, about)

    return Prepared(objective, training, validation, identity, save)
