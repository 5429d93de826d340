"""Checkpoints: one HDF5 file with all a restart needs, on any number of ranks; `saved` reads them.

Written to a temporary name, checksummed, renamed; never from a state that is not finite; the last two are kept.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from solver.case.case import Case
from solver.errors import CaseError, RunFolderError
from solver.files.checkpoint_file import Saved, write
from solver.files.regrid import same_grid
from solver.files.shares import Share, coefficients, planes
from solver.flow.projection import Pressure
from solver.flow.simulation import Simulation
from solver.flow.wall_stress import WallStress
from solver.observers.schedule import TimeSchedule
from solver.parallel.ranks import from_root
from solver.terminal import record

log = logging.getLogger("solver")
PRESSURE = "projection/pressure"


class Checkpoint:
    """Writes a checkpoint at multiples of `interval` and, besides, every `seconds` of wall clock.

    Whether it is late by the clock the loop asks the ranks, with what else it asks them, and sets `overdue`. `parts`
    are the hooks whose ``state()`` belongs in it; `start` is the step the run began or restarted from.
    """

    name = "checkpoint"

    def __init__(
        self, folder: Path, case: Case, interval: float, parts: Sequence[Any], start: int = 0, seconds: float = 600.0
    ) -> None:
        self.folder, self.case = folder / "checkpoints", case
        self.schedule, self.parts, self.seconds = TimeSchedule(interval), parts, seconds
        self.start = start
        self.own: set[Path] = set()
        self.written_at = time.monotonic()
        self.overdue = False

    @property
    def is_late(self) -> bool:
        """By the clock of this rank."""
        return time.monotonic() - self.written_at > self.seconds

    def __call__(self, simulation: Simulation) -> None:
        """Write, if it is time: a multiple of the interval, or `overdue`, which is the same on every rank."""
        if self.overdue or self.schedule.due(simulation):
            with simulation.timers("output"):
                self.write(simulation)

    def write(self, simulation: Simulation) -> bool:
        """Write the present state (collective); False if it is not finite, and nothing is written."""
        op = simulation.operators
        self.written_at, self.overdue = time.monotonic(), False
        fields = [*simulation.velocity.coefficients, *simulation.state.scalars.values()]
        finite = all(bool(torch.isfinite(c).all()) for c in fields)
        if op.decomposition.agree(not finite):
            log.warning("step %d: the field is not finite, no checkpoint is written", simulation.step_count)
            return False
        velocity = zip("uvw", simulation.velocity.coefficients, strict=True)
        arrays: dict[str, Any] = {f"velocity/{n}": coefficients(op, c) for n, c in velocity}
        arrays |= {f"scalars/{n}": coefficients(op, c) for n, c in simulation.state.scalars.items()}
        arrays |= {f"closure/{n}": _of_closure(simulation, n, v) for n, v in simulation.closure_state.items()}
        arrays |= {f"wall_model/{n}": _of_wall(n, v) for n, v in simulation.state.walls.items()}
        if simulation.state.pressure is not None and not simulation.flow.projection.is_exact:
            # the next solve starts from it
            arrays[PRESSURE] = coefficients(op, simulation.state.pressure.kinematic)
        for part in self.parts:
            arrays |= {f"{part.name}/{n}": a for n, a in part.state().items()}
        arrays |= {f"grid/{name}": axis.centres for name, axis in zip("xyz", op.grid.axes, strict=True)}
        attributes = {
            "t": simulation.t,
            "step": simulation.step_count,
            "dt": simulation.dt,
            "implicit_diffusion": simulation.flow.implicit is not None,
            "case": self.case.model_dump_json(),
            "closure_facts": json.dumps(getattr(simulation.closure, "facts", {})),
        }
        path = self.folder / f"step_{simulation.step_count:08d}.h5"
        write(path, op.decomposition.comm, arrays, attributes)
        self.own.add(path)
        record.info("checkpoint %s, t = %.6g", path.name, simulation.t)
        from_root(op.decomposition.comm, self._remove_stale)
        return True

    def _remove_stale(self) -> None:
        """Remove what the newest replaces: all but the last two (root only)."""
        files = set(self.folder.glob("step_*.h5"))
        # damaged, or of a course of events that this run has left
        foreign = {f for f in files - self.own if f.stem[5:].isdigit() and int(f.stem[5:]) > self.start}
        for stale in (*foreign, *sorted(files - foreign)[:-2], *self.folder.glob(".step_*.part")):
            stale.unlink(missing_ok=True)


def _of_closure(simulation: Simulation, name: str, value: Tensor) -> np.ndarray | Share:
    """Closure state: what the closure declares in `slabs` is shared along y, all else is the same on every rank.

    Raises
    ------
    CaseError : it is not.
    """
    slabs = simulation.operators.decomposition
    if name in getattr(simulation.closure, "slabs", ()):
        return planes(value)
    own = value.detach().cpu().numpy()
    if slabs.size > 1 and slabs.agree(not np.array_equal(own, slabs.broadcast(own), equal_nan=True)):
        raise CaseError(
            f"[closure] '{getattr(simulation.closure, 'name', '')}': its state '{name}' differs from rank to rank: "
            "if it is a field, name it in the closure's attribute `slabs`; else make it the same on all"
        )
    return own


def _of_wall(name: str, value: Tensor) -> np.ndarray | Share:
    """State of a wall model: that of walls across z is shared along y."""
    return planes(value) if WallStress.in_slabs(name, value) else value.detach().cpu().numpy()


def restore(
    saved: Saved, simulation: Simulation, parts: Sequence[Any], same_closure: bool = True, same_walls: bool = True
) -> None:
    """Continue time, step, state of closure and wall model (if the same) and hooks from a checkpoint of the same grid.

    Raises
    ------
    RunFolderError : it is of another grid.
    """
    op, here = simulation.operators, simulation.operators.decomposition.planes
    if not same_grid(saved, op):
        raise RunFolderError(
            "--restart: the checkpoint is of another grid than the case: keep [grid], "
            "or start a new run from it with [initial] kind = 'run' and run = 'RUN'"
        )
    memory = dict(simulation.closure_state)
    for name, array in (saved.group("closure") if same_closure else {}).items():
        like = memory.get(name)
        if like is not None:
            local = array[..., here, :] if name in getattr(simulation.closure, "slabs", ()) else array[()]
            if local.shape == tuple(like.shape):  # another closure may use the name for something else
                memory[name] = torch.as_tensor(local, dtype=like.dtype, device=like.device)
    walls = dict(simulation.state.walls)
    for name, like in walls.items() if same_walls else ():
        array = saved.group("wall_model").get(name)
        if array is not None:
            local = array[..., here, :] if WallStress.in_slabs(name, like) else array[()]
            if local.shape == tuple(like.shape):
                walls[name] = torch.as_tensor(local, dtype=like.dtype, device=like.device)
    t, step, dt = float(saved.attributes["t"]), int(saved.attributes["step"]), float(saved.attributes["dt"])
    stored = saved.group(PRESSURE.partition("/")[0]).get("pressure")
    pressure = None if stored is None else Pressure(op.scatter(stored), 0.0)
    simulation.state = replace(simulation.state, t=t, step=step, dt=dt, closure=memory, walls=walls, pressure=pressure)
    for part in parts:
        if group := saved.group(part.name):
            part.restore(group)
