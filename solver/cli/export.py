"""``solver export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from solver.terminal import console


def export(
    source: Annotated[Path, typer.Argument(metavar="RUN|SNAPSHOT", help="run folder, or RUN/snapshots/step_*.h5")],
    out: Annotated[Path, typer.Option(help="file to write: .vtu, .vtk, .xdmf, .msh, .med, .hmf, .tec")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the file")] = False,
) -> None:
    """Write a snapshot for other programs: hexahedra with velocity, pressure, eddy viscosity and solids on them."""
    from solver.figures import export
    from solver.parallel import ranks

    if ranks.is_root():
        export.export(source, out, overwrite)
    console().print(str(out))
