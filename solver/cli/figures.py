"""``solver plot`` and ``solver view``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from solver.errors import CaseError
from solver.terminal import console, log


def references(folder: Path) -> dict[str, Path]:
    """Reference files of a run, by key; they lie in the run folder."""
    from solver.case.case import load_case

    if not (folder / "provenance.json").is_file():
        raise CaseError(f"{folder}: no run folder (it has no provenance.json): give a folder made by `solver run`")
    case, _ = load_case(folder)
    found = case.reference.files(folder) if case.reference else {}
    for scalar in case.scalars:
        roles = {"reference": f"scalar {scalar.name}", "reference_flux": f"scalar {scalar.name} flux"}
        found |= {roles[key]: folder / path for key, path in scalar.paths.items()}
    return found


def missing(folder: Path, drawn: set[str]) -> list[str]:
    """Figures that the case could have had, and what it wants for them."""
    from solver.case.case import load_case

    case, _ = load_case(folder)
    found = []
    if "profiles" not in drawn and case.statistics is not None:
        found.append(f"no profiles.png: nothing is averaged before [statistics] start = {case.statistics.start:g}")
    elif "profiles" not in drawn and case.build_grid().is_channel:
        found.append("no profiles.png: the case has no [statistics]")
    if "vortices" not in drawn and case.output.snapshot == 0:
        found.append("no vortices.png: set [output] snapshot")
    return found


def plot(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="run folder")],
    paper: Annotated[bool, typer.Option("--paper", help="as PDF too, two columns wide, its fonts inside")] = False,
) -> None:
    """Draw the figures of a run into RUN/figures."""
    from solver.figures import draw

    out = console()
    drawn = draw(folder, references(folder), ("png", "pdf") if paper else ("png",), lambda path: out.print(str(path)))
    for line in missing(folder, {path.stem for path in drawn}):
        log.info(line)


def view(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN [RUN ...]", help="run folders")],
    out: Annotated[Path | None, typer.Option(help="PNG to write")] = None,
    interactive: Annotated[bool, typer.Option("--interactive", help="open a window")] = False,
) -> None:
    """Draw the vortices of the latest snapshot in three dimensions; those of several runs side by side."""
    from solver import figures
    from solver.figures.side_by_side import view_side_by_side

    for folder in folders:
        references(folder)
    if len(folders) > 1:
        path = view_side_by_side(folders, out, interactive)
    else:
        path = figures.view(folders[0], out, interactive)
    if path:
        console().print(str(path))
    elif not interactive:
        console().print(f"{folders[0]}: no snapshot to draw: set [output] snapshot in the case")
