"""A network for the pressure equation that learns from matrices: what it minimises, and its artefact."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import nn

from closures.operators import build
from closures.operators.artefact import Card
from closures.pressure_nets import starts
from closures.pressure_nets.bodies import basis, random_fluid, white
from closures.pressure_nets.objective import LineSearch
from closures.pressure_nets.ritz import RitzBasis, RitzResiduals, White
from closures.training.candidate import write_unscaled
from closures.training.identity import identity_of
from closures.training.pressure_recipe import MatricesTable, MatrixRecipe
from closures.training.processes import ProcessGroup
from closures.training.study import Prepared
from solver.errors import CaseError

HELD_OUT = 2  # geometries that only judge


def prepare(recipe: MatrixRecipe, out: Path, processes: ProcessGroup, console: Console | None) -> Prepared:
    """Geometries, network and objective; raises CaseError where the recipe is wrong."""
    torch.manual_seed(recipe.loop.seed)
    network = build(recipe.operator.name, **recipe.operator.arguments)
    if network.kind != "direction":
        raise CaseError(f"[operator] '{recipe.operator.name}' knows no matrices: use 'dcdm' or 'npsdo'")
    if recipe.matrices.cells % cast(int, network.coarsest):
        raise CaseError(f"[matrices] cells = {recipe.matrices.cells}: a multiple of {network.coarsest} is needed")
    table = recipe.matrices
    if table.start == "classical":
        starts.begin(network, table.cells)
    trained, judged = geometries(table, console)
    training = RitzResiduals(trained, table.samples, table.group, table.amplified, table.seed * 1_000_003)
    validation = RitzResiduals(judged, table.validation, table.group, table.amplified, table.seed * 2_000_003)
    objective = LineSearch(network.to(processes.device), table.directions)
    return Prepared(objective, training, validation, identity_of(recipe), partial(_save, recipe, out, network))


def geometries(
    table: MatricesTable, console: Console | None
) -> tuple[list[RitzBasis | White], list[RitzBasis | White]]:
    """Sources to train on, and those that judge: the same on every machine of the same kind."""
    random = np.random.default_rng(table.seed)
    found: list[RitzBasis | White] = []
    numbers = track(range(table.geometries + HELD_OUT), "geometries", console=console, disable=console is None)
    for i in numbers:
        fluid = random_fluid(table.cells, 0 if i == 0 else int(random.integers(1, 5)), random)
        found.append(white(fluid) if table.source == "noise" else basis(fluid, table.vectors, table.seed + i))
    return found[: table.geometries], found[table.geometries :]


def _save(recipe: MatrixRecipe, out: Path, network: nn.Module, errors: dict[str, float]) -> Card:
    """Write the artefact."""
    return write_unscaled(out, network, recipe.operator, recipe.card, errors)
