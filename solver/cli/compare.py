"""``solver compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from solver.cli.prepare import resumable
from solver.cli.run import Sets
from solver.errors import CaseError
from solver.terminal import console


@resumable
def compare(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="CASE | RUN RUN ... | REPORT REPORT ...",
            help="a case with --closures, finished runs, or reports with --front",
        ),
    ],
    closures: Annotated[str, typer.Option(help="names, the baseline first: none,wale,smagorinsky:c_s=0.1")] = "",
    seeds: Annotated[int, typer.Option(min=1, help="runs of each closure, from different initial fields")] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="halve the times of the case")] = False,
    reference: Annotated[
        str | None,
        typer.Option(help="the case's tables by name, filtered-dns[:RUN], or a run"),
    ] = None,
    tune: Annotated[bool, typer.Option("--tune", help="also tune the constants of algebraic models")] = False,
    out: Annotated[Path | None, typer.Option(help="folder of the report")] = None,
    sets: Sets = None,
    different_cases: Annotated[
        bool, typer.Option("--different-cases", help="allow cases that differ elsewhere")
    ] = False,
    front: Annotated[
        bool, typer.Option("--front", help="error against cost: time the closures of several reports again, in turn")
    ] = False,
) -> None:
    """Compare closures on one case: run what is missing, judge every difference, write a report."""
    from closures.compare.campaign import compare as compare_closures
    from closures.compare.front import front as front_of

    if front:
        if closures or seeds > 1 or quick or reference or tune or sets or different_cases:
            raise CaseError("compare --front: it takes reports and --out; the other options make or judge runs")
        front_of(paths, out, console())
        return
    compare_closures(
        paths,
        [name for name in closures.split(",") if name],
        seeds=seeds,
        quick=quick,
        reference=reference,
        tuned=tune,
        out=out,
        sets=sets or (),
        different_cases=different_cases,
        console=console(),
    )
