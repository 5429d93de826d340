"""``solver generate`` and ``solver data``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from solver.cli.prepare import PLAIN, prepared, resumable
from solver.cli.run import Sets
from solver.terminal import console

app = typer.Typer(no_args_is_help=True, help="Look into a data set.", **PLAIN)
DataFile = Annotated[Path, typer.Argument(metavar="SET", help="folder made by `solver generate`")]


@resumable
def generate(
    recipe: Annotated[Path, typer.Argument(help="TOML file, or the name of a shipped recipe")],
    samples: Annotated[int | None, typer.Option(min=1, help="samples or trajectories to make")] = None,
    out: Annotated[Path | None, typer.Option(help="folder to write, in data/ by default")] = None,
    method: Annotated[str | None, typer.Option(help="linear solver, for example skr+icc or direct")] = None,
    sets: Sets = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress")] = False,
) -> None:
    """Make a data set; the same command goes on where it was interrupted. Put mpirun before it."""
    from closures.data.profiles import STATIONARY
    from closures.linear_families.generate import generate as generate_data

    done = generate_data(recipe, out, samples, method, quiet, tuple(sets or ()))
    if not quiet:
        console().print(
            f"{done['path']}: {done['samples']} samples by {done['method']}, {done['made']} of them now, "
            f"{done['samples_per_second']:.3g} a second; sha256 {done['sha256'][:16]}",
            highlight=False,
        )
        if (missing := done.get("imbalance", 0.0)) > STATIONARY:
            console().print(
                f"{_balance(missing)}: few snapshots, or a flow that still develops; see [sampling]", highlight=False
            )


@app.command()
@prepared
def info(file: DataFile) -> None:
    """What a data set holds, and how it was made."""
    from closures.data.inspect import describe

    _print(str(file), describe(file))


@app.command()
@prepared
def verify(file: DataFile) -> None:
    """Recompute the checksums, and a few samples from the seed."""
    from closures.linear_families.inspect import verify as verify_data

    _print(f"{file}: intact", verify_data(file))


@app.command()
@prepared
def convert(
    file: DataFile, out: Annotated[Path, typer.Option(help="folder to write; `solver generate` can add to it")]
) -> None:
    """Make a folder of a set that an earlier version wrote as one file, or as a file for each grid."""
    from closures.data.convert import convert as convert_data

    console().print(f"{out}: sha256 {convert_data(file, out)[:16]}", highlight=False)


@app.command()
@prepared
def statistics(
    file: DataFile,
    out: Annotated[Path, typer.Option(help="file (or folder) to write, for [reference] filtered of a case")],
    batches: Annotated[int, typer.Option(min=1, help="parts of each trajectory, for intervals")] = 5,
    splits: Annotated[str, typer.Option(help="whose trajectories count; valid,test to judge a network")] = (
        "train,valid,test"
    ),
) -> None:
    """Keep the statistics of a channel without its fields: what judges an LES, small enough to lie beside a case."""
    from closures.data.profiles import channel_facts
    from closures.data.statistics import write_statistics

    for written in write_statistics(file, out, batches, splits.split(",")):
        facts, size = channel_facts(written), written.stat().st_size / 1024
        console().print(
            f"{written}: {size:.0f} KiB; Re_tau {facts['re_tau']:.1f}; {_balance(facts['imbalance'])}", highlight=False
        )


def _balance(missing: float) -> str:
    return f"the means miss the balance of momentum by {missing:.1%} of the wall stress"


def _print(title: str, found: dict[str, Any]) -> None:
    table = Table(title=title, show_header=False)
    for key, value in found.items():
        rows = value.items() if isinstance(value, dict) else [("", value)]
        for name, entry in rows:
            table.add_row(f"{key} {name}".strip(), str(entry))
    table.columns[1].overflow = "fold"  # a hash is of use only whole
    console().print(table)
