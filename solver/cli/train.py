"""``solver train`` and ``solver closures``."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table
from rich.text import Text

from solver.cli.prepare import resumable
from solver.cli.run import Sets
from solver.terminal import console


@resumable
def train(
    recipe: Annotated[Path, typer.Argument(help="TOML file, or the name of a shipped recipe")],
    out: Annotated[Path | None, typer.Option(help="folder for the network and the state of its training")] = None,
    data: Annotated[Path | None, typer.Option(help="data file in place of the recipe's")] = None,
    sets: Sets = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress")] = False,
) -> None:
    """Train a network; the same command goes on where it stopped, and further with more epochs.

    Several processes: torchrun --nproc-per-node N -m solver train ...; an ensemble, flows that run beside the training
    ([online]), or one that ranks share ([solver] split = 'flow'): mpirun -n N solver train ...
    """
    folder, shown = out or Path("runs") / f"train-{recipe.stem}", None if quiet else console()
    with _claimed(folder):
        from closures.training.experiment import train as run_experiment

        metrics = run_experiment(recipe, folder, data, shown, sets or ()).card.metrics
    if shown and _is_first():
        errors = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        shown.print(f"{folder}: {errors}")


def _is_first() -> bool:
    """Whether this is no process of torchrun, or the first of its group."""
    return os.environ.get("RANK", "0") == "0"


def _claimed(folder: Path) -> AbstractContextManager[None]:
    """The lock of the folder; of torchrun's processes, each of which is alone to MPI, the first holds it."""
    from solver.files import lock
    from solver.parallel import ranks

    return lock.held(folder) if ranks.world_size() > 1 or _is_first() else nullcontext()


def closures() -> None:
    """List closures and wall models: where they come from, what they are, and the options that their tables take."""
    from closures.operators.shipped import with_artefact
    from closures.registry.listing import describe, describe_wall_models

    out = console()
    for title, found in (("[closure]", describe()), ("[wall_model]", describe_wall_models())):
        table = Table(Column("name", no_wrap=True), "from", "what it is, and its options", title=Text(title))
        for name, entry in found.items():
            options = "\n" + ", ".join(entry.options) if entry.options else ""
            table.add_row(name, entry.origin, Text(entry.summary + options))
        out.print(table)
    folders = "with artefact = 'FOLDER', a network that `solver train` made: " + ", ".join(with_artefact())
    out.print(Text(folders))
