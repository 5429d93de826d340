"""`solver watch`: the look of a run on a terminal, and plain lines elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from solver.cli.columns import fitting
from solver.cli.run_list import DAMAGED, NOT_ENDED, is_run
from solver.cli.watching import Look, Profile, look
from solver.errors import RunFolderError

SHOWN = {  # columns of timeseries.csv, the most telling first
    "max_divergence": "largest divergence",
    "cfl": "CFL number",
    "dt": "time step",
    "re_tau": "Re_tau",
    "u_tau": "friction velocity",
    "forcing": "forcing",
    "bulk_velocity": "bulk velocity",
    "kinetic_energy": "kinetic energy",
    "dissipation": "viscous dissipation",
    "sgs_dissipation": "subgrid dissipation",
    "residual_trust": "residual of the surrogate",
    "momentum_imbalance": "its imbalance of momentum",
    "familiarity": "distance from known flows",
    "fluctuation_energy": "energy of fluctuations",
    "c_d": "drag coefficient",
    "c_l": "lift coefficient",
}
BARS = "▁▂▃▄▅▆▇█"
SPARKS = 32  # characters of a history
HEIGHTS = 8  # rows of a profile


def follow(folder: Path, once: bool, every: float, console: Console) -> None:
    """Show a run until it ends, or `once`; what is not a terminal gets a line at news.

    Raises
    ------
    RunFolderError : no run in the folder.
    """
    if not is_run(folder):
        raise RunFolderError(f"{folder}: no run folder: give one that `solver run` has made, see `solver runs`")
    seen = look(folder)
    if once:
        console.print(view(seen, console))
    elif console.is_terminal:
        with Live(view(seen, console), console=console, auto_refresh=False) as live:
            while seen.run.writer:
                time.sleep(every)
                seen = look(folder)
                live.update(view(seen, console), refresh=True)
    else:
        console.print(said := line(seen))
        while seen.run.writer:
            time.sleep(every)
            seen = look(folder)
            if (news := line(seen)) != said:
                console.print(said := news)
    if not seen.run.writer:
        console.print(ending(seen))


def line(seen: Look) -> str:
    """How the run stands, in a line that changes with its step or status only."""
    run, last = seen.run, {name: column[-1] for name, column in seen.history.items()}
    numbers = "".join(f"  {name} {last[name]:.4g}" for name in SHOWN if math.isfinite(last.get(name, math.nan)))
    step = "" if run.steps is None else f"  step {run.steps}"
    return f"{run.status}  {100 * seen.share:.0f} %{step}  t {run.time:.4g}/{run.end:g}{numbers}"


def ending(seen: Look) -> str:
    """What to do with a run that is not at work."""
    run, here = seen.run, seen.run.folder
    if run.status in (NOT_ENDED, "stopped", "failed"):
        return f"{run.status} at t = {run.time:.4g}; go on: solver run {here} --restart {here}"
    if run.status == DAMAGED:
        return f"damaged: summary.json, provenance.json or case.toml cannot be read; see {here / 'log.txt'}"
    errors = {name: text for name, text in run.row().items() if name.endswith("%") and text}
    against = f" against {run.errors.get('reference')}: " + ", ".join(f"{k[:-2]} {v} %" for k, v in errors.items())
    return f"{run.status} at t = {run.time:.4g}{against if errors else ''}; figures: solver plot {here}"


def view(seen: Look, console: Console) -> RenderableType:
    """Everything there is to see, no wider than the terminal."""
    run, width = seen.run, min(console.width, 100)
    parts: list[RenderableType] = [f"{run.closure} in {run.case}: {run.folder}"]
    left = f", {duration(seen.seconds_left)} left" if math.isfinite(seen.seconds_left) else ""
    parts.append(f"{run.status} at step {run.steps}, t = {run.time:.4g} of {run.end:g}{left}")
    if console.is_terminal:
        parts.append(ProgressBar(total=1.0, completed=seen.share, width=width))
    if seen.history:
        parts += ["", numbers(seen.history, width, console.encoding)]
    if seen.profile is not None:
        parts += ["", profile(seen.profile, width)]
    if seen.milliseconds:
        parts += ["", costs(seen.milliseconds, width)]
    return Group(*parts)


def costs(milliseconds: dict[str, float], width: int) -> str:
    """The parts of a step in one line, the dearest first; those that it has no room for are summed up."""
    dearest = sorted(milliseconds.items(), key=lambda part: -part[1])
    for shown in range(len(dearest), 0, -1):
        rest = sum(spent for _, spent in dearest[shown:])
        told = [f"{name} {spent:.3g}" for name, spent in dearest[:shown]] + ([f"the rest {rest:.3g}"] if rest else [])
        if len(line := f"milliseconds a step: {', '.join(told)}") <= width:
            return line
    return f"milliseconds a step: {sum(milliseconds.values()):.3g}"


def numbers(history: dict[str, list[float]], width: int, encoding: str) -> Table:
    """The last value of each quantity, and how it came to that."""
    letters = BARS if encoding.lower().startswith("utf") else ".:-=+*#@"
    shown = [(name, column) for name in SHOWN if (column := history.get(name))]
    records = [
        {"": SHOWN[name], "now": f"{column[-1]:.4g}", "so far": spark(column, letters)}
        for name, column in shown
        if any(map(math.isfinite, column))
    ]
    return fitting(records, ("", "now", "so far"), width)


def profile(found: Profile, width: int) -> Table:
    """Mean velocity at some heights, even in the logarithm of the wall distance."""
    wanted = np.geomspace(found.y_plus[0], found.y_plus[-1], HEIGHTS)
    rows = list(dict.fromkeys(int(np.abs(np.log(found.y_plus / y)).argmin()) for y in wanted))
    records = []
    for i in rows:
        mine, theirs = found.u_plus[i], found.reference[i]
        known = math.isfinite(theirs)
        records.append(
            {
                "y+": f"{found.y_plus[i]:.1f}",
                f"U+ over {found.duration:.4g}": f"{mine:.2f}",
                found.name or "reference": f"{theirs:.2f}" if known else "",
                "%": f"{100 * (mine / theirs - 1):.1f}" if known else "",
            }
        )
    return fitting(records, tuple(records[0]), width)


def spark(values: Sequence[float], letters: str = BARS) -> str:
    """A history in one line of bars, from its smallest value to its largest."""
    known = np.array([value for value in values if math.isfinite(value)])
    if not len(known):
        return ""
    chosen = known[np.linspace(0, len(known) - 1, min(SPARKS, len(known))).round().astype(int)]
    span = chosen.max() - chosen.min()
    level = (chosen - chosen.min()) / span if span > 0 else np.zeros_like(chosen)
    return "".join(letters[min(int(x * len(letters)), len(letters) - 1)] for x in level)


def duration(seconds: float) -> str:
    """Hours, minutes or seconds, whichever says enough."""
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
