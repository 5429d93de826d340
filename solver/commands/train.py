"""``solver train`` and ``solver closures``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table
from rich.text import Text

from solver.commands.prepare import resumable
from solver.terminal import console


@resumable
def train(
    recipe: Annotated[Path, typer.Argument(help="TOML file, or the name of a shipped recipe")],
    out: Annotated[Path | None, typer.Option(help="folder for the network and the state of its training")] = None,
    data: Annotated[Path | None, typer.Option(help="data file in place of the recipe's")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress")] = False,
) -> None:
    """Train a network; the same command goes on where it stopped, and further with more epochs.

    Several processes: torchrun --nproc-per-node N -m solver train ...; an ensemble: mpirun -n N solver train ...
    """
    from closures.preconditioners import learned_multigrid_train as multigrid
    from closures.preconditioners import train as matrices
    from closures.training import ensemble, through_solver
    from closures.training.offline import train as train_network
    from closures.training.recipe import find

    folder, shown = out or Path("runs") / f"train-{recipe.stem}", None if quiet else console()
    if file := find(recipe, "multigrid", multigrid.SHIPPED):
        metrics = multigrid.train(file, folder, shown).metrics
    elif file := find(recipe, "matrices", matrices.SHIPPED):
        metrics = matrices.train(file, folder, shown).metrics
    elif file := find(recipe, "solver"):
        metrics = through_solver.train(file, folder, data, shown).metrics
    elif file := find(recipe, "ensemble"):
        metrics = ensemble.train(file, folder, data, shown).metrics
    else:
        metrics = train_network(recipe, folder, data, shown).card.metrics
    if shown and os.environ.get("RANK", "0") == "0":
        errors = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        shown.print(f"{folder}: {errors}")


def closures() -> None:
    """List the closures: where they come from, what they are, and the options that [closure] takes for them."""
    from closures.listing import describe
    from closures.shipped import with_artefact

    table = Table(Column("name", no_wrap=True), "from", "what it is, and its options")
    for name, entry in describe().items():
        options = "\n" + ", ".join(entry.options) if entry.options else ""
        table.add_row(name, entry.origin, Text(entry.summary + options))
    out = console()
    out.print(table)
    folders = "with artefact = 'FOLDER', a network that `solver train` made: " + ", ".join(with_artefact())
    out.print(Text(folders))
