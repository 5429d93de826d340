"""The commands of ``solver``, in the order of ``solver --help``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from solver import __version__
from solver.cli import bench, cases, compare, data, export, figures, machine, run, runs, schema, train
from solver.cli.prepare import PLAIN, prepared

COMMANDS: tuple[Callable[..., None], ...] = (
    cases.cases,
    cases.new,
    run.run,
    run.check,
    runs.watch,
    runs.runs,
    runs.clean,
    compare.compare,
    data.generate,
    train.train,
    train.closures,
    figures.plot,
    figures.view,
    export.export,
    schema.schema,
    machine.doctor,
)


def build() -> typer.Typer:
    """The command line."""
    app = typer.Typer(no_args_is_help=True, help="Large-eddy simulation that hosts closures.", **PLAIN)
    app.callback()(options)
    for command in COMMANDS:
        app.command()(prepared(command))
    app.add_typer(bench.app, name="bench")
    app.add_typer(data.app, name="data")
    return app


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"les-solver {__version__}")
        raise typer.Exit


def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="say which version this is")
    ] = False,
) -> None:
    """Large-eddy simulation that hosts closures."""
