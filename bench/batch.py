"""What a step of several flows as one costs, against as many flows by themselves.

    python bench/batch.py --grid 32x32x16 --grid 16x16x8 --closure none --closure wale --json bench/batch.json

Processor time a step and flow, single flow and batches in turn, so that ratios hold on a busy machine: medians of seven
rounds. Modes and cells are those of `cases/channel180_coarse`, or as many as are asked for.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from solver.discretisation import fusion
from solver.files.folder import processor, write_text
from solver.flow.batch import Batch
from solver.flow.simulation import Simulation
from solver.run.build import build, source_of
from solver.run.machine import prepare_process

CASE, SEED = Path("cases/channel180_coarse"), 20_261
ROUNDS, STEPS, WARM_UP = 7, 18, 4  # nine steps hold one evaluation of a dynamic coefficient


def flow(grid: str, closure: str, dtype: str, number: int) -> Simulation:
    """One of them, from noise of its own."""
    nx, ny, nz = grid.split("x")
    sets = [f"grid.x.n={nx}", f"grid.y.n={ny}", f"grid.z.n={nz}", f"run.dtype={dtype}", "run.device=cpu"]
    return build(source_of(CASE, [*sets, f"initial.seed={SEED + number}"], closure))


def measured(grid: str, closure: str, dtype: str, sizes: list[int]) -> list[dict[str, Any]]:
    """A record for the single flow and for each size of a batch."""
    moving: dict[int, Simulation | Batch] = {0: flow(grid, closure, dtype, 0)}
    moving |= {size: Batch([flow(grid, closure, dtype, k) for k in range(size)]) for size in sizes}
    times: dict[int, list[float]] = {size: [] for size in moving}
    for one in moving.values():
        for _ in range(WARM_UP):
            one.step()
    for _ in range(ROUNDS):
        for size, one in moving.items():
            started = time.process_time()
            for _ in range(STEPS):
                one.step()
            times[size].append((time.process_time() - started) / STEPS / max(size, 1))
    return [
        {
            "grid": grid,
            "closure": closure,
            "dtype": dtype,
            "members": size,
            "milliseconds": 1e3 * statistics.median(found),
            "ratio": statistics.median(a / b for a, b in zip(found, times[0], strict=True)),
            "machine": processor(),
        }
        for size, found in times.items()
    ]


def main(
    grid: Annotated[list[str], typer.Option(help="modes and cells")] = ["32x32x16"],  # noqa: B006
    closure: Annotated[list[str], typer.Option(help="by name")] = ["none"],  # noqa: B006
    dtype: Annotated[list[str], typer.Option(help="float64 or float32")] = ["float64"],  # noqa: B006
    members: Annotated[list[int], typer.Option(help="flows of a batch")] = [1, 2, 4, 8, 16],  # noqa: B006
    fuse: Annotated[bool, typer.Option(help="compile the pointwise kernels")] = True,
    json_file: Annotated[Path | None, typer.Option("--json", help="write the records to this file")] = None,
) -> None:
    """Measure, print a table, and write the records."""
    prepare_process()
    fusion.enable(fuse)
    every = [measured(g, c, d, members) for d in dtype for g in grid for c in closure]
    table = Table("grid", "closure", "dtype", "flows", "ms a step and flow", "of a single one")
    for r in (r for records in every for r in records):
        flows = str(r["members"] or "single")
        table.add_row(r["grid"], r["closure"], r["dtype"], flows, f"{r['milliseconds']:.2f}", f"{r['ratio']:.2f}")
    Console().print(table)
    if json_file is not None:
        write_text(json_file, json.dumps([r for records in every for r in records], indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
