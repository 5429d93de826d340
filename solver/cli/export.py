"""``solver export``: what a run has computed, and what a training has learned, for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from solver.errors import CaseError
from solver.terminal import console


def export(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|SNAPSHOT|NETWORK",
            help="run folder, RUN/snapshots/step_*.h5, folder of a trained network, or the name of a shipped one",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="file: .vtkhdf with all times of a run; .vtu, .vtk, .xdmf, .msh, .med, .hmf, .tec with the last; "
            "of a network .onnx, or .pt2 of torch.export"
        ),
    ],
    case: Annotated[Path | None, typer.Option(help="of a network: the case on whose grid it acts")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the file")] = False,
) -> None:
    """Write snapshots for other programs: hexahedra with velocity, pressure, eddy viscosity and solids on them.

    Or a trained network: from the field that it reads to its answer, names, shapes and units in the file.
    """
    from closures.operators.artefact import CARD
    from closures.operators.shipped import shipped
    from solver.figures import export
    from solver.parallel import ranks

    network = shipped().get(str(source), source)
    if (network / CARD).is_file():
        _network(network, out, case, overwrite)
    elif case is not None:
        raise CaseError(f"--case {case}: is for networks, and {source} has no {CARD}: leave it out")
    elif ranks.is_root():
        export.export(source, out, overwrite)
    console().print(str(out))


def _network(folder: Path, out: Path, case: Path | None, overwrite: bool) -> None:
    """Write a trained network as it acts on the grid of a case."""
    from closures.coupling import exported
    from solver.cli.run import load
    from solver.parallel import ranks

    if case is None:
        raise CaseError(
            f"{folder}: a network is written for one grid: add --case with a case, by its folder or its name"
        )
    found = load(case, None, None, None).case
    if ranks.is_root():
        exported.export(folder, found.build_grid(), found.flow.nu, out, overwrite)
