"""``solver bench``: the time step, or linear solvers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from solver import parallel
from solver.errors import CaseError
from solver.rundir import write_text
from solver.terminal import console

app = typer.Typer(invoke_without_command=True)


@app.callback()
def step(
    context: typer.Context,
    grid: Annotated[str, typer.Option(help="points, e.g. 64x96x64")] = "64x96x64",
    flow: Annotated[str, typer.Option(help="channel or box")] = "channel",
    closure: str = "none",
    dtype: str = "float64",
    device: str = "auto",
    steps: Annotated[int, typer.Option(min=3)] = 15,
    json_file: Annotated[Path | None, typer.Option("--json", help="append the record to this file")] = None,
    fuse: Annotated[bool, typer.Option(help="compile the pointwise kernels")] = True,
) -> None:
    """Time the parts of a step against the transforms it cannot do without (or, `bench linear`, pressure solvers)."""
    if context.invoked_subcommand:
        return
    import torch

    from closures.registry import create
    from solver import fusion
    from solver.bench import flow_simulation, measure

    try:
        nx, ny, nz = (int(n) for n in grid.split("x"))
        precision = {"float64": torch.float64, "float32": torch.float32}[dtype]
    except (ValueError, KeyError):
        raise CaseError(f"--grid {grid} --dtype {dtype}: should read like 64x96x64 and float64 or float32") from None
    records = _records(json_file) if json_file else []
    fusion.enable(fuse and fusion.compiler_available())
    simulation = flow_simulation(
        (nx, ny, nz), flow, device, precision, lambda g, nu: create(closure, grid=g, nu=nu, options={})
    )
    record: dict[str, Any] = {"flow": flow} | measure(simulation, steps)
    out = console()
    if parallel.is_root() and json_file:
        write_text(json_file, json.dumps([*records, record], indent=1) + "\n")
    table = Table(title=f"{flow} {grid}, {record['closure']}, {dtype}, {record['ranks']} rank(s), {record['device']}")
    table.add_column("part")
    table.add_column("ms a step", justify="right")
    for name, milliseconds in record["milliseconds"].items():
        table.add_row(name, f"{milliseconds:.2f}")
    table.add_section()
    table.add_row("whole step", f"{1e3 * record['seconds_per_step']:.2f}")
    out.print(table)
    out.print(
        f"{record['ns_per_point_per_stage']:.1f} ns a point and stage, "
        f"fft_limit_ratio {record['fft_limit_ratio']:.2f}, {record['memory_mib']:.0f} MiB, {record['machine']}"
    )


def _records(file: Path) -> list[Any]:
    """Earlier records in a JSON file, none if it is new."""
    try:
        records = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    except ValueError:
        records = None
    if not isinstance(records, list):
        raise CaseError(f"--json {file}: holds no list of records: choose another file")
    return records


@app.command()
def linear(
    problem: Annotated[list[str] | None, typer.Option(help="cube, sphere or cube_array; repeat for several")] = None,
    size: Annotated[list[int] | None, typer.Option(help="cells a side")] = None,
    method: Annotated[list[str] | None, typer.Option(help="direct, multigrid, cg+multigrid, cg+gamg, ...")] = None,
    tolerance: Annotated[list[float] | None, typer.Option(help="relative residual")] = None,
    device: str = "auto",
    repeats: Annotated[int, typer.Option(min=1)] = 3,
    fuse: Annotated[bool, typer.Option("--fuse", help="compile the sweeps of large grids")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="write the table to this file")] = None,
) -> None:
    """Compare pressure solvers: set-up and solve seconds, iterations, true residual."""
    from solver import fusion
    from solver.bench_linear import METHODS, PROBLEMS, run

    fusion.enable(fuse)
    chosen = parallel.choose_device(device)
    run(
        problem or list(PROBLEMS),
        size or [64],
        method or METHODS,
        tolerance or [1e-6, 1e-10],
        chosen,
        repeats,
        json_file,
    )
