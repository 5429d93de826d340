"""``solver run`` and ``solver check``."""

from __future__ import annotations

import logging
import math
import statistics
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from solver.errors import CaseError
from solver.terminal import console, log_to_terminal

CasePath = Annotated[Path, typer.Argument(help="case folder, TOML file, or a name of `solver cases`")]
Sets = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="override a key, e.g. grid.y.n=64")]
Closure = Annotated[str | None, typer.Option(help="subgrid closure by name; see `solver closures`")]


def load(case: Path, closure: str | None, device: str | None, sets: list[str] | None) -> Any:
    """A validated case with the command line's overrides."""
    from solver.run.build import source_of

    overrides = list(sets or [])
    if device is not None:
        overrides.append(f"run.device={device}")
    return source_of(case, overrides, closure)


def run(
    case: CasePath,
    closure: Closure = None,
    steps: Annotated[int | None, typer.Option(min=1, help="stop after this many steps")] = None,
    out: Annotated[Path | None, typer.Option(help="run folder")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda")] = None,
    sets: Sets = None,
    restart: Annotated[
        Path | None, typer.Option(help="continue a run folder or checkpoint; auto: the run that is in --out, if any")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the run that is in the folder")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress, no tables")] = False,
) -> None:
    """Run a case and compare it with its reference."""
    from solver.run import run as application
    from solver.run.wishes import alone

    if quiet:
        log_to_terminal(logging.ERROR)
    source = load(case, closure, device, sets)
    raise typer.Exit(alone(application.run(source, out, steps, restart, quiet, console(), overwrite)))


def check(case: CasePath, closure: Closure = None, device: str | None = None, sets: Sets = None) -> None:
    """Validate a case; divergence after one real projection, memory, seconds a step, which limit sets dt.

    With --closure also whether that keeps the contract of closures; under mpirun, whether it is the same on all ranks.
    """
    from solver.run.build import build
    from solver.run.limit import seconds
    from solver.run.machine import COMPILE_SECONDS, is_fused
    from solver.run.speed import memory_mib

    source = load(case, closure, device, sets)
    simulation = build(source)
    divergence = simulation.max_divergence
    simulation.step()
    duration = statistics.median(seconds(simulation.step) for _ in range(3))
    steps = (source.case.time.end - simulation.t) / simulation.dt  # may be infinite
    table = Table(title=str(case), show_header=False)
    table.add_row("grid", simulation.operators.grid.in_words())
    if walls := simulation.flow.projection.walls:
        table.add_row("solid", str(walls.solids))
    table.add_row("max |div u| after projection", f"{divergence:.2e}")
    table.add_row("dt", f"{simulation.dt:.3e}, set by {simulation.control.limit}")
    table.add_row("molecular diffusion along y", "implicit" if simulation.flow.implicit else "explicit or exact")
    table.add_row("memory a rank", f"{memory_mib():.0f} MiB")
    table.add_row("seconds a step (not fused)", f"{duration:.4f}")
    table.add_row("steps to the end", f"about {steps:.0f}, {steps * duration / 60:.0f} min or less")
    kept = _contract(source) if closure not in (None, "none") else {}
    for clause, word in kept.items():
        table.add_row(f"contract: {clause}", word)
    op = simulation.operators
    compiled = is_fused(source.case.run.fuse, math.prod(op.local_shape), steps, op.device.type)
    table.add_row("kernels", f"compiled, about {COMPILE_SECONDS:.0f} s, once" if compiled else "plain torch")
    console().print(table)
    if broken := [clause for clause, word in kept.items() if word != "kept"]:
        raise CaseError(f"[closure] '{closure}' does not keep its contract: {', '.join(broken)}")


def _contract(source: Any) -> dict[str, str]:
    """What `closures.registry.contract` says of the closure of a case, on its grid; nothing around solids."""
    from closures.registry.contract import Subject, examine
    from closures.registry.registry import create

    case = source.case
    grid = case.build_grid()
    if case.solids is not None or grid.is_open:
        return {}
    options = case.closure.options
    return examine(Subject(lambda seen: create(case.closure.name, grid=seen, nu=case.flow.nu, options=options), grid))
