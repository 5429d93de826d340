"""Train a network for the pressure equation: recipe in, artefact out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import nn

from closures.operators import artefact, build
from closures.operators.artefact import Card
from closures.pressure_nets import starts
from closures.pressure_nets.bodies import basis, random_fluid, white
from closures.pressure_nets.objective import LineSearch
from closures.pressure_nets.ritz import RitzBasis, RitzResiduals, White
from closures.training.fit import Fit
from closures.training.identity import identity_of
from closures.training.pressure_recipe import MatricesTable, MatrixRecipe
from closures.training.processes import ProcessGroup, process_group
from closures.training.recipe import read
from solver.errors import CaseError
from solver.files.folder import commit, to_toml, write_text

SHIPPED = Path(__file__).parents[1] / "pressure_nets" / "recipes"
HELD_OUT = 2  # geometries that only judge


def train(file: Path, out: Path, console: Console | None = None) -> Card:
    """Train, or go on training, in the folder `out`, and write the artefact there.

    Raises
    ------
    CaseError : the recipe is wrong.
    RunFolderError : `out` cannot be written, or holds the state of another training.
    Diverged : the gradient is not finite.
    """
    recipe = read(MatrixRecipe, file)
    with torch.enable_grad(), process_group(recipe.loop.device) as processes:
        network, fit = _prepare(recipe, file, out, processes, console)
        if processes.is_root:
            write_text(out / "recipe.toml", to_toml(recipe.model_dump(exclude_none=True)))
        fit.run(console)
        errors = fit.errors()
        if processes.is_root:
            _write(recipe, out, network, errors)
        processes.wait()
    return artefact.load(out).card


def _prepare(
    recipe: MatrixRecipe, file: Path, out: Path, processes: ProcessGroup, console: Console | None
) -> tuple[nn.Module, Fit]:
    """The network as it begins, and its training."""
    torch.manual_seed(recipe.loop.seed)
    network = build(recipe.operator.name, **recipe.operator.arguments)
    if network.kind != "direction":
        raise CaseError(f"{file}: [operator] '{recipe.operator.name}' knows no matrices: use 'dcdm' or 'npsdo'")
    if recipe.matrices.cells % int(network.coarsest):  # type: ignore[arg-type]
        raise CaseError(
            f"{file}: [matrices] cells = {recipe.matrices.cells}: a multiple of {network.coarsest} is needed"
        )
    table = recipe.matrices
    if table.start == "classical":
        starts.begin(network, table.cells)
    trained, judged = geometries(table, console)
    training = RitzResiduals(trained, table.samples, table.group, table.amplified, table.seed * 1_000_003)
    validation = RitzResiduals(judged, table.validation, table.group, table.amplified, table.seed * 2_000_003)
    objective, identity = LineSearch(network.to(processes.device), table.directions), identity_of(recipe)
    return network, Fit(objective, training, validation, recipe.optimiser, recipe.loop, processes, out, identity)


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


def _write(recipe: MatrixRecipe, out: Path, network: torch.nn.Module, errors: dict[str, float]) -> None:
    artefact.save(
        out,
        network,
        recipe.operator.name,
        recipe.operator.arguments,
        scaling=None,
        step=0.0,
        filter="none",
        grid=None,
        nu=(0.0, 0.0),
        trained_on=recipe.card.trained_on,
        data_sha256=None,
        commit=commit()[0],
        metrics=errors,
        licence=recipe.card.licence,
    )
