"""``solver cases`` and ``solver new``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from solver.terminal import console

DEAREST = ("case", "flow", "Re", "grid", "reference", "core s", "title")


def cases() -> None:
    """List the cases that come with the solver; `solver run NAME` takes them by name, from any folder."""
    from solver.cli.columns import fitting
    from solver.files.catalogue import listed

    out = console()
    out.print(fitting(listed(), DEAREST, out.width))


def new(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="folder to make")],
    origin: Annotated[Path, typer.Option("--from", metavar="CASE", help="a name of `solver cases`, or any case")],
) -> None:
    """Begin a case of your own as a copy of another, with its reference data and the schema for editors."""
    from closures.registry.schemas import schema_of
    from solver.files.catalogue import copy_case
    from solver.parallel import ranks

    if not ranks.is_root():
        return
    files = copy_case(origin, folder, schema_of("case"))
    out = console()
    out.print(f"{folder}: a copy of {origin}: {', '.join(str(file.relative_to(folder)) for file in files)}")
    out.print(f"next: edit {folder / 'case.toml'}, then: solver check {folder}    solver run {folder}")
