"""The command line.

Errors are one line with key, file and remedy. Exit codes: 0 finished, 2 bad input, 3 diverged or laminar,
130 interrupted, 1 a bug (with its traceback).
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from solver import __version__, parallel
from solver.errors import CaseError, SolverError
from solver.machine import describe, prepare_process
from solver.rundir import write_text

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Large-eddy simulation that hosts learned closures.")
log = logging.getLogger("solver")

CasePath = Annotated[Path, typer.Argument(help="case folder or TOML file")]
Sets = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="override a key, e.g. grid.y.n=64")]
Closure = Annotated[str | None, typer.Option(help="subgrid closure by name; see `solver closures`")]


def console() -> Console:
    """The root's console; other ranks stay quiet."""
    return Console(quiet=not parallel.is_root(), soft_wrap=True)


def load(case: Path, closure: str | None, device: str | None, sets: list[str] | None) -> Any:
    """A validated case with the command line's overrides."""
    from solver.app import Source
    from solver.case import load_case

    overrides = list(sets or [])
    if device is not None:
        overrides.append(f"run.device={device}")
    parsed, folder = load_case(case, tuple(overrides), closure)
    return Source(parsed, folder, case.resolve().name if case.is_dir() else case.stem)


@app.command()
def run(
    case: CasePath,
    closure: Closure = None,
    steps: Annotated[int | None, typer.Option(min=1, help="stop after this many steps")] = None,
    out: Annotated[Path | None, typer.Option(help="run folder")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda")] = None,
    sets: Sets = None,
    restart: Annotated[Path | None, typer.Option(help="continue a run folder or checkpoint")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress, no tables")] = False,
) -> None:
    """Run a case and compare it with its reference."""
    from solver import app as application

    if quiet:
        log_to_terminal(logging.ERROR)
    raise typer.Exit(application.run(load(case, closure, device, sets), out, steps, restart, quiet, console()))


@app.command()
def check(case: CasePath, closure: Closure = None, device: str | None = None, sets: Sets = None) -> None:
    """Validate a case; divergence after one real projection, memory, seconds a step, which limit sets dt."""
    from solver.app import build
    from solver.bench import measure

    source = load(case, closure, device, sets)
    simulation = build(source)
    divergence = simulation.max_divergence
    found = measure(simulation, steps=3, warm_up=1)
    steps = int((source.case.time.end - simulation.t) / simulation.dt)
    table = Table(title=str(case), show_header=False)
    table.add_row("grid", " x ".join(map(str, simulation.operators.grid.shape)))
    table.add_row("max |div u| after projection", f"{divergence:.2e}")
    table.add_row("dt", f"{simulation.dt:.3e}, set by {simulation.control.limit}")
    table.add_row("memory a rank", f"{found['memory_mib']:.0f} MiB")
    table.add_row("seconds a step (not fused)", f"{found['seconds_per_step']:.4f}")
    table.add_row(
        "steps to the end",
        f"about {steps}, {steps * float(str(found['seconds_per_step'])) / 60:.0f} min or less",
    )
    console().print(table)


@app.command()
def bench(
    grid: Annotated[str, typer.Option(help="points, e.g. 64x96x64")] = "64x96x64",
    flow: Annotated[str, typer.Option(help="channel or box")] = "channel",
    closure: str = "none",
    dtype: str = "float64",
    device: str = "auto",
    steps: Annotated[int, typer.Option(min=3)] = 15,
    json_file: Annotated[Path | None, typer.Option("--json", help="append the record to this file")] = None,
    fuse: Annotated[bool, typer.Option(help="compile the pointwise kernels")] = True,
) -> None:
    """Time the parts of a step against the transforms it cannot do without."""
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


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="TOML file, or the name of a shipped recipe")],
    out: Annotated[Path | None, typer.Option(help="folder for the network and the state of its training")] = None,
    data: Annotated[Path | None, typer.Option(help="data file in place of the recipe's")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress")] = False,
) -> None:
    """Train a network; the same command goes on where it stopped. Several processes: torchrun -m solver train ..."""
    from closures.training.offline import train as train_network

    done = train_network(recipe, out or Path("runs") / f"train-{recipe.stem}", data, None if quiet else console())
    if not quiet and os.environ.get("RANK", "0") == "0":
        errors = ", ".join(f"{name} {value:.4g}" for name, value in done.card.metrics.items())
        console().print(f"{done.folder}: {errors}")


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
def closures() -> None:
    """List the registered closures."""
    from closures.registry import describe as describe_closures

    table = Table("name", "what it is")
    for name, summary in describe_closures().items():
        table.add_row(name, summary)
    console().print(table)


@app.command()
def doctor() -> None:
    """What this machine has: MPI, PETSc, GPU, threads, compiler."""
    table = Table(show_header=False, title=f"les-solver {__version__}")
    for key, value in describe().items():
        table.add_row(key, value)
    console().print(table)


def references(folder: Path) -> dict[str, Path]:
    """Reference files of a run, by key; they lie in the run folder."""
    from solver.case import load_case

    if not (folder / "provenance.json").is_file():
        raise CaseError(f"{folder}: no run folder (it has no provenance.json): give a folder made by `solver run`")
    case, _ = load_case(folder)
    return case.reference.files(folder) if case.reference else {}


@app.command()
def plot(folder: Annotated[Path, typer.Argument(metavar="RUN", help="run folder")]) -> None:
    """Draw the figures of a run into RUN/figures."""
    from solver.figures import draw

    for path in draw(folder, references(folder)):
        console().print(str(path))


@app.command()
def view(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="run folder")],
    out: Annotated[Path | None, typer.Option(help="PNG to write")] = None,
    interactive: Annotated[bool, typer.Option("--interactive")] = False,
) -> None:
    """Draw the vortices of the latest snapshot in three dimensions."""
    from solver import figures

    references(folder)
    path = figures.view(folder, out, interactive)
    console().print(str(path) if path else f"{folder}: no snapshot to draw: set [output] snapshot in the case")


def log_to_terminal(level: int) -> None:
    """Log messages from `level` on go to standard error, from the root alone; a run's ``log.txt`` gets them all."""
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setLevel(level)
    terminal.setFormatter(logging.Formatter("solver: %(message)s"))
    log.handlers[:] = [terminal]
    log.setLevel(logging.INFO if parallel.is_root() else logging.CRITICAL)


def main() -> None:
    """Entry point: one line for deliberate errors, every rank ends with the same code."""
    sys.exit(_run_command())


def _run_command() -> int:
    log_to_terminal(logging.INFO)
    try:
        prepare_process()
        return int(app(standalone_mode=False) or 0)  # the code of typer.Exit is returned, not raised
    except SolverError as error:
        return _fail(str(error), error.exit_code)
    except OSError as error:
        return _fail(f"{error.filename or 'input or output'}: {error.strerror or error}", 2)
    except Exception as error:
        if isinstance(error, MemoryError) or "allocate" in str(error) or "out of memory" in str(error):
            return _fail("out of memory: use a coarser grid, float32, or more ranks on more nodes", 2)
        usage = getattr(error, "format_message", None)  # typer's usage errors have no public base class
        if usage is None:
            return _fail(traceback.format_exc(), 1)
        return _fail(f"{usage()}; see `solver --help`", 2) if usage() else 2  # without a message it was the help


def _fail(message: str, code: int) -> int:
    """Say what is wrong once, then end every rank, also those waiting in a collective call."""
    if not parallel.is_root():
        time.sleep(5.0)  # the root speaks first if it failed too
    print(f"solver: {message}", file=sys.stderr, flush=True)
    if parallel.world_size() > 1:
        parallel.abort(code)
    return code


if __name__ == "__main__":
    main()
