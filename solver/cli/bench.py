"""``solver bench``: the time step, or linear solvers."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from solver.cli.prepare import PLAIN, prepared
from solver.errors import CaseError
from solver.terminal import console

app = typer.Typer(invoke_without_command=True, **PLAIN)


@app.callback()
@prepared
def step(
    context: typer.Context,
    grid: Annotated[str, typer.Option(help="points, e.g. 64x96x64")] = "64x96x64",
    flow: Annotated[str, typer.Option(help="channel or box")] = "channel",
    closure: Annotated[list[str] | None, typer.Option(help="repeat to compare; none if not given")] = None,
    dtype: str = "float64",
    device: str = "auto",
    rounds: Annotated[int, typer.Option(min=1, help="of three steps of each closure in turn")] = 7,
    json_file: Annotated[Path | None, typer.Option("--json", help="append the record to this file")] = None,
    fuse: Annotated[bool, typer.Option(help="compile the pointwise kernels")] = True,
) -> None:
    """Time the parts of a step against the transforms it cannot do without (or, `bench linear`, pressure solvers)."""
    if context.invoked_subcommand:
        return
    import torch

    from solver.discretisation import fusion
    from solver.files.folder import write_text
    from solver.parallel import ranks
    from solver.run.speed import flow_simulation, measure

    try:
        nx, ny, nz = (int(n) for n in grid.split("x"))
        precision = {"float64": torch.float64, "float32": torch.float32}[dtype]
    except (ValueError, KeyError):
        raise CaseError(f"--grid {grid} --dtype {dtype}: should read like 64x96x64 and float64 or float32") from None
    records = _records(json_file) if json_file else []
    fusion.enable(fuse and fusion.compiler_available(ranks.choose_device(device).type))
    simulations = []
    for name in closure or ["none"]:
        make = partial(_create, name)
        simulations.append(flow_simulation((nx, ny, nz), flow, device, precision, make))
    found: list[dict[str, Any]] = [{"flow": flow} | record for record in measure(simulations, rounds)]
    if ranks.is_root() and json_file:
        write_text(json_file, json.dumps([*records, *found], indent=1) + "\n")
    out, first = console(), found[0]
    out.print(_table(f"{flow} {grid}, {dtype}, {first['ranks']} rank(s), {first['device']}: ms a step", found))
    out.print(f"largest memory {first['memory_mib']:.0f} MiB a rank, {first['machine']}")


def _create(name: str, grid: Any, nu: float) -> Any:
    from closures.registry.registry import create

    return create(name, grid=grid, nu=nu, options={})


def _table(title: str, records: list[dict[str, Any]]) -> Table:
    """Parts of a step, a column for each closure."""
    parts = sorted({part for r in records for part in r["milliseconds"]})
    table = Table("part", *(Column(r["closure"], justify="right") for r in records), title=title)
    for part in parts:
        times = [r["milliseconds"].get(part) for r in records]
        table.add_row(part, *("-" if t is None else f"{t:.2f}" for t in times))
    table.add_section()
    rows = {
        "whole step": [f"{1e3 * r['seconds_per_step']:.2f}" for r in records],
        "ns a point and stage": [f"{r['ns_per_point_per_stage']:.1f}" for r in records],
        "x ten transforms in cache": [f"{r['ten_transforms_ratio']:.2f}" for r in records],
        "x the FFT limit": [f"{r['fft_limit_ratio']:.2f}" for r in records],
        f"x {records[0]['closure']}": [f"{r['relative_cost']:.2f}" for r in records],
    }
    for name, cells in rows.items():
        table.add_row(name, *cells)
    return table


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
@prepared
def linear(
    problem: Annotated[
        list[str] | None, typer.Option(help="cube, sphere, cube_array; cylinder: 50 systems of that case, in turn")
    ] = None,
    size: Annotated[list[int] | None, typer.Option(help="cells a side")] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="direct, multigrid, auto, cg+gamg, learned:NAME, ...")
    ] = None,
    tolerance: Annotated[list[float] | None, typer.Option(help="relative residual")] = None,
    device: str = "auto",
    repeats: Annotated[int, typer.Option(min=1)] = 3,
    fuse: Annotated[bool, typer.Option("--fuse", help="compile the sweeps of large grids")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="write the table to this file")] = None,
) -> None:
    """Compare pressure solvers: set-up and solve seconds, iterations, true residual."""
    from closures.pressure_nets.assemble import folders
    from solver.cli.benchmarks.pressure import PROBLEMS, run
    from solver.discretisation import fusion
    from solver.parallel import ranks
    from solver.run.build import learned_in

    fusion.enable(fuse)
    chosen = ranks.choose_device(device)
    run(
        problem or list(PROBLEMS),
        size or [64],
        method or (),
        tolerance or [1e-6, 1e-10],
        chosen,
        repeats,
        json_file,
        learned_in(Path()),
        list(folders()),
    )
