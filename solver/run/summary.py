"""What a run leaves behind: ``summary.json``, tables, and the comparison with the case's reference."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table

from solver.analysis.batch_means import BatchMeans
from solver.analysis.metrics import PROFILES
from solver.analysis.scalar_flow import ERRORS
from solver.analysis.wall_flow import OUTER_LAYER
from solver.case.case import Case
from solver.errors import RunFolderError
from solver.files.folder import write_json, write_table
from solver.flow.simulation import Simulation
from solver.observers.averages import write_centrelines, write_spectra, write_statistics
from solver.observers.field_means import FieldMeans
from solver.observers.scalar_statistics import ScalarStatistics, write_scalars
from solver.observers.series import TimeSeries
from solver.observers.spectra import PlaneSpectra
from solver.observers.statistics import Statistics
from solver.observers.time_average import TimeAverage
from solver.run.leg import FAILED
from solver.run.observed import Observed
from solver.run.performance import in_words, performance
from solver.run.stability import in_words as held
from solver.run.stability import stability

log = logging.getLogger("solver")
COARSE_GRID = (
    "the grid is coarse: of these, U and C_f alone can be held against a whole flow; for stresses see `solver compare`"
)
TIMINGS = (
    *("wall_seconds", "compile_seconds", "memory_mib", "seconds_per_step", "ns_per_point_per_stage"),
    *("fft_limit_ratio", "closure_fraction", "milliseconds_per_step"),
)


@dataclass
class Outcome:
    """A run at its end; writing is collective, only the root touches files."""

    case: Case
    folder: Path
    name: str
    simulation: Simulation
    status: str
    wall_seconds: float
    steps: int
    compile_seconds: float

    def __post_init__(self) -> None:
        self.summary = self._facts()

    @property
    def has_last_state(self) -> bool:
        """Whether the velocity is that of the end of a step, and of use."""
        return self.status not in ("diverged", FAILED)

    def _facts(self) -> dict[str, Any]:
        sim, op, walls = self.simulation, self.simulation.operators, self.simulation.flow.walls
        projection = sim.flow.projection.summary(self.steps)
        overruled = int(sim.closure_state.get("guard", (0,))[0])
        gave_up = projection.get("pressure", {}).get("guard_interventions", 0)
        facts = {
            "status": self.status,
            "case": self.name,
            "closure": self.case.closure.name,
            "wall_model": self.case.wall_model.name,
            "wall_model_overruled": float(walls.overruled(sim.state.walls)) if walls else 0.0,
            "implicit_diffusion": sim.flow.implicit is not None,
            "grid": list(op.grid.shape),
            "ranks": op.decomposition.size,
            "exchange": op.decomposition.engine.name if op.decomposition.size > 1 else "none",
            "threads": torch.get_num_threads(),
            "device": str(op.device),
            "dtype": self.case.run.dtype,
            "steps": sim.step_count,
            "time": sim.t,
            "wall_seconds": self.wall_seconds,
            "compile_seconds": self.compile_seconds,
            "guard_interventions": overruled + gave_up,
            "closure_facts": getattr(sim.closure, "facts", {}),
        }
        return facts | projection

    def write(self, folder: Path, observed: Observed, series: TimeSeries) -> None:
        """Write the summary, every table, and the summary with what the tables said.

        A table that cannot be made, as of a reference that has become unusable, costs that table and one line.

        Raises
        ------
        RunFolderError : the disk is full or the folder cannot be written.
        """
        self.summary["max_divergence"] = series.worst_divergence
        if series.latest:
            self.summary["final"] = series.latest
        before = timings_of(folder) if not self.steps else {}  # a leg that only judges anew says nothing of the cost
        if series.is_root:
            write_json(folder / "summary.json", self.summary | before)
        self.summary |= performance(self.simulation, self.steps) | before
        for hook in observed.statistics:
            if isinstance(hook, FieldMeans):
                self._write_fields(folder, hook)
                continue
            means = hook.gathered()
            if means is not None:
                with excused(f"averages of {folder}"):
                    self._write_averages(folder, hook, means)
        if self.simulation.surrogate is not None and series.is_root:
            with excused("how the surrogate held"):
                self.summary["stability"] = stability(folder / "timeseries.csv")
        for spectra in observed.spectra if series.is_root else ():
            with excused("spectra.csv"):
                write_table(folder / "spectra.csv", spectra.table())
        for forces in observed.forces:
            with excused("forces"):
                self.summary["forces"] = forces.summary()
        if self.has_last_state:
            observed.snapshots.finish(self.simulation)
            self.summary |= write_centrelines(folder, self.simulation)
        if series.is_root:
            write_json(folder / "summary.json", self.summary)

    def _write_fields(self, folder: Path, hook: FieldMeans) -> None:
        """Collective: of fields nobody holds the whole."""
        self.summary["averaging_time"] = hook.means.duration
        if hook.means.sums is not None:
            hook.write(folder, self.case.flow.nu)

    def _write_averages(self, folder: Path, hook: TimeAverage, means: BatchMeans) -> None:
        """Root only."""
        if isinstance(hook, Statistics):
            self.summary["averaging_time"] = means.duration
        if means.sums is None:
            return
        if isinstance(hook, Statistics):
            grid = hook.operators.grid
            self.summary |= write_statistics(folder, self.case, self.folder, grid, means)
        elif isinstance(hook, ScalarStatistics):
            self.summary |= write_scalars(folder, self.case, self.folder, hook, means)
        elif isinstance(hook, PlaneSpectra):
            write_spectra(folder, self.case, hook, means)

    def lines(self, folder: Path) -> list[str | Table]:
        """What to print: the timings, the comparison, where everything is, and how to go on (root only)."""
        s = self.summary
        found: list[str | Table] = [in_words(s)]
        if line := held(s.get("stability", {})):
            found.append(line)
        if line := stresses_in_words(s):
            found.append(line)
        if "errors" in s:
            found.append(comparison_table(s))
            if s.get("grid_is_coarse"):
                found.append(COARSE_GRID)
        if line := section_in_words(s):
            found.append(line)
        found += [line for name, told in s.get("scalars", {}).items() if (line := scalar_in_words(name, told))]
        if s.get("forces"):
            found.append("  ".join(f"{key} {value:.4g}" for key, value in s["forces"].items()))
        found.append(f"results: {folder}    figures: solver plot {folder}")
        if self.status == "stopped":
            found.append(f"go on: solver run {folder} --restart {folder}")
        return found


def timings_of(folder: Path) -> dict[str, Any]:
    """The timings that the summary in a folder has; empty without one."""
    try:
        found = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {key: found[key] for key in TIMINGS if found.get(key) is not None}


@contextlib.contextmanager
def excused(what: str) -> Iterator[None]:
    """Turns a failure to make a table into one line; for what the root does alone, so that nobody waits for it."""
    try:
        yield
    except RunFolderError:
        raise
    except Exception as error:
        reason = str(error).partition("\n")[0]
        log.error("%s: not written: %s (%s); the run is complete without", what, reason, type(error).__name__)


def stresses_in_words(summary: dict[str, Any]) -> str:
    """How straight the total stress is, and what the subgrid part of it carries and drains; "" without walls."""
    subgrid, residual = summary.get("subgrid"), summary.get("total_stress_residual")
    if subgrid is None or residual is None or not np.isfinite(residual):
        return ""
    words = [f"viscous + resolved + subgrid stress is straight to {100 * residual:.2g} %"]

    def told(key: str) -> str:
        width = subgrid["ci95"][key]
        return f"{100 * subgrid[key]:.1f}" + (f" ± {100 * width:.1f}" if np.isfinite(width) else "") + " %"

    if np.isfinite(subgrid["share_at_y_plus_15"]):
        words.append(f"subgrid part of turbulent shear at y+ 15: {told('share_at_y_plus_15')}")
    if np.isfinite(subgrid["work_mean"]) and (subgrid["work_mean"] or subgrid["work_fluctuation"]):
        mean, fluctuation = told("work_mean"), told("work_fluctuation")
        words.append(f"its work on the mean flow and on fluctuations: {mean} and {fluctuation} of what is lost")
    return "; ".join(words)


def scalar_in_words(name: str, told: dict[str, Any]) -> str:
    """Nusselt number of a scalar, the reference's and how far the profiles are off; "" where walls differ."""
    if "nusselt" not in told:
        return ""
    width = told["ci95"]["nusselt"]
    words = f"{name}: Nu {told['nusselt']:.2f}" + (f" ± {width:.2g}" if np.isfinite(width) else "")
    if "errors" in told:
        off = ", ".join(f"{key} {100 * value:.1f} %" for key, value in told["errors"].items() if key in ERRORS)
        words += f" (reference {told['reference_nusselt']:.2f}); errors in wall units: {off}"
    return f"{words}; heat balance closes to {100 * told['balance_residual']:.2g} %"


def section_in_words(summary: dict[str, Any]) -> str:
    """Friction, secondary flow and wall stress of a square duct, and the reference's; "" for other flows."""
    told = summary.get("section")
    if told is None:
        return ""
    flow, width = told["secondary_flow"], told["ci95"]["secondary_flow"]
    words = [f"C_f x 1000: {1e3 * summary['c_f']:.3f}"]
    words += [
        f"secondary flow: {100 * flow:.2f}" + (f" ± {100 * width:.2g}" if np.isfinite(width) else "") + " % of U_b"
    ]
    if "errors" in told:
        known, errors = told["reference_values"], told["errors"]
        words[0] += f" ({1e3 * known['c_f']:.3f}, {100 * errors['c_f']:+.1f} %)"
        words[1] += f" ({100 * known['secondary_flow']:.2f} %)"
        words.append(f"wall stress along the walls: {100 * errors['wall_stress']:.1f} % off at most")
        words.append(f"U: {100 * errors['u']:.1f} % of U_b off; against {errors['reference']}")
    return "; ".join(words)


def comparison_table(summary: dict[str, Any]) -> Table:
    """Run against reference, with 95 % half widths."""
    reference, ci = summary["reference_values"], summary["ci95"]
    outer = "" if summary["wall_model"] == "none" else f", {summary['wall_model']}, y >= {OUTER_LAYER:g} h"
    table = Table(title=f"{summary['case']}, {summary['closure']}{outer}, against {summary['errors']['reference']}")
    for name in ("quantity", "run", "± 95 %", "reference", "error in bulk units", "error in wall units"):
        table.add_column(name, justify="left" if name == "quantity" else "right")

    def width(key: str, scale: float = 1.0, form: str = ".3g") -> str:
        value = ci.get(key)
        return "-" if value is None or not np.isfinite(value) else f"{scale * value:{form}}"

    table.add_row("Re_tau", f"{summary['re_tau']:.1f}", width("re_tau"), f"{reference['re_tau']:.1f}", "", "")
    error = summary["errors"]["c_f"]
    table.add_row(
        "C_f x 1000",
        f"{1e3 * summary['c_f']:.3f}",
        "",
        f"{1e3 * reference['c_f']:.3f}",
        f"{100 * error:.2f} %",
        "",
    )
    for metric in PROFILES:
        scaled = [f"{metric.scale * summary[key][metric.name]:.2f} {metric.unit}" for key in ("errors", "errors_plus")]
        table.add_row(metric.label, "", f"{width(metric.name, metric.scale, '.2f')} {metric.unit}", "", *scaled)
    largest = summary["u_plus_departure"]
    table.add_row("max |dU+|", f"{largest['value']:.3f}", f"{largest['ci95']:.3g}", "", "", "")
    table.add_row(
        "total stress residual",
        f"{100 * summary['total_stress_residual']:.2f} %",
        width("total_stress_residual", 100, ".2f") + " %",
        "",
        "",
        "",
    )
    return table
