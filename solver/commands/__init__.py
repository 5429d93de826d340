"""The commands of ``solver``, in the order of ``solver --help``."""

from __future__ import annotations

from collections.abc import Callable

import typer

from solver.commands import bench, compare, data, figures, machine, run, train

COMMANDS: tuple[Callable[..., None], ...] = (
    run.run,
    run.check,
    compare.compare,
    data.generate,
    train.train,
    train.closures,
    figures.plot,
    figures.view,
    machine.doctor,
)


def build() -> typer.Typer:
    """The command line."""
    app = typer.Typer(add_completion=False, no_args_is_help=True, help="Large-eddy simulation that hosts closures.")
    for command in COMMANDS:
        app.command()(command)
    app.add_typer(bench.app, name="bench")
    app.add_typer(data.app, name="data")
    return app
