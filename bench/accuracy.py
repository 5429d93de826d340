"""Error against cost of the Taylor-Green vortex at Re = 1600: Fourier axes, and finite volumes along all three.

    python bench/accuracy.py --runs runs/accuracy    # on a machine that does nothing else

Error: of -dE/dt from 0 to 12, root mean square over the peak of the spectral solution with 512^3 modes. Cost: core
seconds of a step, timed alone and in turn after the runs, times the steps to 12. Finite volumes stand for the error of
other codes of second order; told is their cost at the speed of one of these (`PEER`) as well. Runs that are in the
folder are not made again. Writes bench/accuracy.json and bench/accuracy.png.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from matplotlib.ticker import FixedLocator, NullLocator
from rich.console import Console
from rich.table import Table

from closures.compare.runs import Run, read
from closures.compare.timing import load, timed_alone
from solver.figures.style import BLUE, GREY, VERMILLION, paper, save, sheet
from solver.files.folder import processor, write_json, write_text
from solver.files.reference_files import read_reference

CASE = Path("cases/taylor_green").absolute()
END = 12.0
PEER, PEER_NANOSECONDS = "CaNS", 52.0  # a point and stage of a box of 64^3, on one core of an Intel Xeon
STAGES = 3
HERE = Path(__file__).parent
KINDS = {"fourier": ("Fourier", BLUE), "finite_volume": ("finite volumes", VERMILLION)}
SIZES = {"fourier": (48, 64, 96), "finite_volume": (64, 96, 128)}  # modes and cells a direction: errors are alike


def case_of(kind: str, folder: Path) -> Path:
    """The shipped case, or the same with finite volumes along all axes."""
    text = (CASE / "case.toml").read_text(encoding="utf-8")
    if kind == "finite_volume":
        text = re.sub('kind = "fourier"\n', 'kind = "finite_volume"\n', text)
        text = re.sub(r'length = ("2 pi")', r'end = \1\nlower = "periodic"\nupper = "periodic"', text)
    text = text.replace('"reference/', f'"{CASE}/reference/')
    write_text(folder / f"{kind}.toml", text)
    return folder / f"{kind}.toml"


def run(kind: str, n: int, folder: Path) -> Run:
    """The flow to its end with n modes or cells a direction; an earlier run is taken as it is."""
    out = folder / f"{kind}_{n}"
    if not (out / "summary.json").exists():
        sets = [f"grid.{axis}.n={n}" for axis in "xyz"]
        sets += [f"time.end={END}", "output.every_steps=1", "output.snapshot=0", "output.spectra=0"]
        words = [word for change in sets for word in ("--set", change)]
        command = [sys.executable, "-m", "solver", "run", case_of(kind, folder), *words, "--out", out, "--overwrite"]
        subprocess.run([str(word) for word in command], check=True)
    return read(out)


def error(found: Run) -> float:
    """Root mean square of -dE/dt less that of the table, over the largest of the table."""
    series = found.table("timeseries")
    assert series is not None
    t, energy = series["time"], series["kinetic_energy"]
    lost = -np.gradient(energy, t, edge_order=2)
    table = read_reference(CASE / "reference/tgv_re1600_spectral512.csv")
    inside = table["t"] <= t[-1]
    exact = table["dissipation"][inside]
    difference = np.interp(table["t"][inside], t, lost) - exact
    return float(np.sqrt(np.trapezoid(difference**2, table["t"][inside]) / t[-1]) / exact.max())


def record(kind: str, n: int, found: Run, timed: Run) -> dict[str, Any]:
    """One row."""
    steps = int(found.summary["steps"])
    points = int(np.prod(found.summary["grid"]))
    return {
        "axes": kind,
        "n": n,
        "steps": steps,
        "error": error(found),
        "core_seconds": steps * float(timed.summary["seconds_per_step"]),
        "core_seconds_of_peer": steps * STAGES * points * 1e-9 * PEER_NANOSECONDS,
    }


def draw(rows: list[dict[str, Any]]) -> None:
    """Error over cost, both logarithmic; n beside the symbols."""
    with paper():
        figure, panels = sheet(1, 1, 3.0, 4.2)
        axes = panels[0, 0]
        for kind, (name, colour) in KINDS.items():
            mine = [r for r in rows if r["axes"] == kind]
            cost, errors = [r["core_seconds"] for r in mine], [100 * r["error"] for r in mine]
            axes.plot(cost, errors, "o-", color=colour, label=name)
            for r, x, y in zip(mine, cost, errors, strict=True):
                axes.annotate(f" {r['n']}$^3$", (x, y), fontsize=8)
            if kind == "finite_volume":
                peer = [r["core_seconds_of_peer"] for r in mine]
                axes.plot(peer, errors, "s--", color=GREY, label=f"finite volumes at the speed of {PEER}")
        axes.set(xscale="log", yscale="log", xlabel="core seconds", ylabel=r"error of $-dE/dt$ [% of the peak]")
        axes.yaxis.set_major_locator(FixedLocator([3, 4, 5, 6, 8]))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())
        axes.margins(x=0.1)
        axes.legend(loc="lower left")
        save(figure, HERE / "accuracy.png")


def main(
    runs: Annotated[Path, typer.Option(help="where the runs are, or will be")] = Path("runs/accuracy"),
) -> None:
    """Run what is missing, time, print a table, write the records and the figure."""
    asked = [(kind, size) for kind, sizes in SIZES.items() for size in sizes]
    found = [run(kind, size, runs.absolute()) for kind, size in asked]
    beside = load()
    rows = [record(*key, one, timed) for key, one, timed in zip(asked, found, timed_alone(found), strict=True)]
    table = Table("axes", "n", "steps", "error [%]", "core seconds", f"at the speed of {PEER}")
    for r in rows:
        seconds = f"{r['core_seconds']:.1f}", f"{r['core_seconds_of_peer']:.1f}"
        table.add_row(r["axes"], str(r["n"]), str(r["steps"]), f"{100 * r['error']:.2f}", *seconds)
    Console().print(table)
    write_json(
        HERE / "accuracy.json",
        {
            "machine": processor(),
            "beside": beside,
            "peer": f"{PEER}, {PEER_NANOSECONDS:g} ns a point and stage",
            "rows": rows,
        },
    )
    draw(rows)


if __name__ == "__main__":
    typer.run(main)
