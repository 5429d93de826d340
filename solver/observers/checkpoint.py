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
from solver.files.checkpoint_file import FORMAT, Saved, fill
from solver.files.folder import write_hdf5
from solver.files.regrid import same_grid
from solver.flow.projection import Pressure
from solver.flow.simulation import Simulation
from solver.flow.wall_stress import WallStress
from solver.observers.schedule import TimeSchedule
from solver.terminal import record

log = logging.getLogger("solver")
PRESSURE = "projection/pressure"


class Checkpoint:
    """Writes a checkpoint at multiples of `interval` and, besides, every `seconds` of wall clock.

    `parts` are the hooks whose ``state()`` belongs in it; `start` is the step the run began or restarted from.
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

    def __call__(self, simulation: Simulation) -> None:
        """Write, if it is time; the ranks agree on the root's clock."""
        late = simulation.operators.decomposition.agree(time.monotonic() - self.written_at > self.seconds)
        if late or self.schedule.due(simulation):
            with simulation.timers("output"):
                self.write(simulation)

    def write(self, simulation: Simulation) -> bool:
        """Write the present state (collective); False if it is not finite, and nothing is written."""
        op = simulation.operators
        self.written_at = time.monotonic()
        fields = [*simulation.velocity.coefficients, *simulation.state.scalars.values()]
        finite = all(bool(torch.isfinite(c).all()) for c in fields)
        if op.decomposition.agree(not finite):
            log.warning("step %d: the field is not finite, no checkpoint is written", simulation.step_count)
            return False
        velocity = zip("uvw", simulation.velocity.coefficients, strict=True)
        arrays: dict[str, Any] = {f"velocity/{n}": op.gather(c) for n, c in velocity}
        arrays |= {f"scalars/{n}": op.gather(c) for n, c in simulation.state.scalars.items()}
        arrays |= {f"closure/{n}": _gather_state(simulation, n, v) for n, v in simulation.closure_state.items()}
        arrays |= {f"wall_model/{n}": _gather_wall(simulation, n, v) for n, v in simulation.state.walls.items()}
        if simulation.state.pressure is not None and not simulation.flow.projection.is_exact:
            arrays[PRESSURE] = op.gather(simulation.state.pressure.kinematic)  # the next solve starts from it
        for part in self.parts:
            arrays |= {f"{part.name}/{n}": a for n, a in part.state().items()}
        if op.decomposition.is_root:
            self._write_file(simulation, arrays)
        return True

    def _write_file(self, simulation: Simulation, arrays: dict[str, Any]) -> None:
        """Write the file, then remove what it replaces: all but the last two."""
        op = simulation.operators
        for name, axis in zip("xyz", op.grid.axes, strict=True):
            arrays[f"grid/{name}"] = axis.centres
        attributes = {
            "format": FORMAT,
            "t": simulation.t,
            "step": simulation.step_count,
            "dt": simulation.dt,
            "implicit_diffusion": simulation.flow.implicit is not None,
            "case": self.case.model_dump_json(),
            "closure_facts": json.dumps(getattr(simulation.closure, "facts", {})),
        }
        path = self.folder / f"step_{simulation.step_count:08d}.h5"
        write_hdf5(path, lambda file: fill(file, arrays, attributes))
        self.own.add(path)
        record.info("checkpoint %s, t = %.6g", path.name, simulation.t)
        files = set(self.folder.glob("step_*.h5"))
        # damaged, or of a course of events that this run has left
        foreign = {f for f in files - self.own if f.stem[5:].isdigit() and int(f.stem[5:]) > self.start}
        for stale in (*foreign, *sorted(files - foreign)[:-2], *self.folder.glob(".step_*.part")):
            stale.unlink(missing_ok=True)


def _gather_state(simulation: Simulation, name: str, value: Tensor) -> np.ndarray | None:
    """Closure state: what the closure declares in `slabs` is joined along y, all else is the same on every rank.

    Raises
    ------
    CaseError : it is not.
    """
    slabs = simulation.operators.decomposition
    if name in getattr(simulation.closure, "slabs", ()):
        whole = slabs.gather_planes(value)
        return None if whole is None else whole.numpy()
    own = value.detach().cpu().numpy()
    if slabs.size > 1 and slabs.agree(not np.array_equal(own, slabs.broadcast(own), equal_nan=True)):
        raise CaseError(
            f"[closure] '{getattr(simulation.closure, 'name', '')}': its state '{name}' differs from rank to rank: "
            "if it is a field, name it in the closure's attribute `slabs`; else make it the same on all"
        )
    return own


def _gather_wall(simulation: Simulation, name: str, value: Tensor) -> np.ndarray | None:
    """State of a wall model: that of walls across z is joined along y."""
    if WallStress.in_slabs(name, value):
        whole = simulation.operators.decomposition.gather_planes(value)
        return None if whole is None else whole.numpy()
    return value.detach().cpu().numpy()


def restore(
    saved: Saved, simulation: Simulation, parts: Sequence[Any], same_closure: bool = True, same_walls: bool = True
) -> None:
    """Continue time, step, state of closure and wall model (if the same) and hooks from a checkpoint of the same grid.

    Raises
    ------
    RunFolderError : it is of another grid.
    """
    op, planes = simulation.operators, simulation.operators.decomposition.planes
    if not same_grid(saved, op):
        raise RunFolderError(
            "--restart: the checkpoint is of another grid than the case: keep [grid], "
            "or start a new run from it with [initial] kind = 'run' and run = 'RUN'"
        )
    memory = dict(simulation.closure_state)
    for name, array in (saved.group("closure") if same_closure else {}).items():
        like = memory.get(name)
        if like is not None:
            local = array[..., planes, :] if name in getattr(simulation.closure, "slabs", ()) else array[()]
            if local.shape == tuple(like.shape):  # another closure may use the name for something else
                memory[name] = torch.as_tensor(local, dtype=like.dtype, device=like.device)
    walls = dict(simulation.state.walls)
    for name, like in walls.items() if same_walls else ():
        array = saved.group("wall_model").get(name)
        if array is not None:
            local = array[..., planes, :] if WallStress.in_slabs(name, like) else array[()]
            if local.shape == tuple(like.shape):
                walls[name] = torch.as_tensor(local, dtype=like.dtype, device=like.device)
    t, step, dt = float(saved.attributes["t"]), int(saved.attributes["step"]), float(saved.attributes["dt"])
    stored = saved.group(PRESSURE.partition("/")[0]).get("pressure")
    pressure = None if stored is None else Pressure(op.scatter(stored), 0.0)
    simulation.state = replace(simulation.state, t=t, step=step, dt=dt, closure=memory, walls=walls, pressure=pressure)
    for part in parts:
        if group := saved.group(part.name):
            part.restore(group)
