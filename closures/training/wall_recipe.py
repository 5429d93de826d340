"""The recipe of a wall model: which mean velocities a correction of the law of the wall learns from."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

import torch
from pydantic import Field, model_validator

from closures.operators import build
from closures.operators.artefact import Card
from closures.operators.wall_correction import WallCorrection
from closures.training.candidate import write_unscaled
from closures.training.identity import identity_of
from closures.training.study import Prepared
from closures.training.tables import CardTable, LoopTable, OperatorTable, OptimiserTable
from closures.training.wall_profiles import ROOM, Rows, WallError, of_the_law, samples
from solver.case.table import Table
from solver.errors import CaseError


class ProfilesTable(Table):
    """``[profiles]``: tables of mean velocities of direct simulations.

    Parameters
    ----------
    training : names of tables that are learned from.
    validation : names of those that choose the best weights.
    law_from : Re_tau from which on the law itself is taught, along single walls: there it is believed.
    """

    training: tuple[str, ...] = Field(strict=False, min_length=1)
    validation: tuple[str, ...] = Field(strict=False, min_length=1)
    law_from: float = Field(default=3000.0, ge=1000.0)

    @model_validator(mode="after")
    def _apart(self) -> ProfilesTable:
        if both := set(self.training) & set(self.validation):
            raise ValueError(f"validation: '{min(both)}' is learned from as well: what judges is not to be seen")
        return self


class WallRecipe(Table):
    """How one correction of the law of the wall is trained.

    Parameters
    ----------
    title : one line, for people.
    """

    title: str
    operator: OperatorTable
    profiles: ProfilesTable
    optimiser: OptimiserTable = OptimiserTable()
    loop: LoopTable
    card: CardTable


def prepare(recipe: WallRecipe, out: Path) -> Prepared:
    """Samples, network and objective; raises CaseError where the recipe is wrong."""
    torch.manual_seed(recipe.loop.seed)
    network = build(recipe.operator.name, **recipe.operator.arguments)
    if not isinstance(network, WallCorrection):
        raise CaseError(f"[operator] '{recipe.operator.name}' is no wall model: use 'wall_correction'")
    training, validation = (samples(names, network) for names in (recipe.profiles.training, recipe.profiles.validation))
    network.fit_range(training[:, :3])
    training = torch.cat([training, of_the_law(recipe.profiles.law_from, network)])
    files = [ROOM / f"{name}.csv" for name in (*recipe.profiles.training, *recipe.profiles.validation)]
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    save = partial(_save, recipe, out, network, hashlib.sha256("".join(digests).encode()).hexdigest())
    return Prepared(WallError(network), Rows(training), Rows(validation), identity_of(recipe, digests), save)


def _save(recipe: WallRecipe, out: Path, network: WallCorrection, digest: str, errors: dict[str, float]) -> Card:
    """Write the artefact."""
    return write_unscaled(out, network, recipe.operator, recipe.card, errors, digest)
