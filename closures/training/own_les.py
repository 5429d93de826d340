"""Frames of our own LES, drawn once and kept beside the training."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from closures.coupling.frames import Frames
from closures.coupling.resample import network_grid
from closures.data.windows import InMemory, Trajectories
from closures.operators.domain import Domain, same
from closures.training.fields_table import FieldsTable
from closures.training.kept import kept
from closures.training.processes import ProcessGroup
from closures.training.tables import EquationsTable
from solver.case.case import Case, load_case
from solver.errors import CaseError, Diverged
from solver.flow.simulation import Simulation
from solver.parallel import ranks
from solver.run import build

FILE = "fields.safetensors"


class OwnLes(InMemory):
    """Trajectories of our own LES; the frames after the first serve to judge, and to set the units.

    Parameters
    ----------
    velocity : (n_traj, n_steps, nx, ny, nz, 3) on `domain`, `step` apart from `start` on.
    nu, closure : of the equations; viscosities of the flows where they differ.
    """

    def __init__(
        self,
        velocity: np.ndarray,
        domain: Domain,
        step: float,
        start: float,
        nu: float | Sequence[float],
        closure: str,
    ) -> None:
        super().__init__(velocity, domain, step, start)
        self.nu = np.atleast_1d(nu)
        self.attributes: dict[str, Any] = {"filter": f"none: LES with closure '{closure}'"}
        self.sha256 = hashlib.sha256(np.ascontiguousarray(velocity).tobytes()).hexdigest()


def teacher(table: EquationsTable, device: str, number: int = 0) -> Simulation:
    """The simulation whose equations, or frames, teach; `number` moves the seed of its initial field."""
    case, folder = _case(table, device)
    initial = case.initial.model_copy(update={"seed": case.initial.seed + number})
    source = build.Source(case.model_copy(update={"initial": initial}), folder, folder.name)
    return build.build(source, comm=ranks.alone())


def _case(table: EquationsTable, device: str) -> tuple[Case, Path]:
    steps = f"time.dt = {table.interval / table.steps!r}", f"run.device = '{device}'"
    return load_case(Path(table.case), (*table.overrides, *steps))


def draw(table: EquationsTable, device: str, out: Path, processes: ProcessGroup) -> OwnLes:
    """Trajectories as `table.fields` says: those in `out`, or new ones, which are then kept there (collective).

    Raises
    ------
    CaseError : the case is wrong.
    RunFolderError : `out` holds the fields of other equations, or damaged ones.
    Diverged : the flow blew up: the step is too long for it.
    """
    assert table.fields is not None
    case, _ = _case(table, device)
    described = case.model_dump(mode="json", exclude={"run": {"device"}}), table.model_dump(include={"fields"})
    identity = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
    fields = table.fields
    velocity = kept(out / FILE, identity, lambda: _trajectories(table, fields, device), processes)
    grid = network_grid(case.build_grid())
    domain, times = Domain.of(grid), (table.interval, table.fields.spin_up)
    return OwnLes(velocity, domain, *times, case.flow.nu, case.closure.name)


@torch.no_grad()
def _trajectories(table: EquationsTable, fields: FieldsTable, device: str) -> np.ndarray:
    """(trajectories, frames, nx, ny, nz, 3), single precision."""
    found = []
    for number in range(fields.trajectories):
        simulation = teacher(table, device, number)
        flow = Frames(simulation)
        _advance(simulation, round(fields.spin_up / table.interval * table.steps))
        frames = []
        for frame in range(fields.frames):
            _advance(simulation, table.steps if frame else 0)
            u = flow.centred(simulation.velocity.coefficients)
            frames.append(u.movedim(0, -1).to("cpu", torch.float32).numpy())
        if not np.isfinite(frames[-1]).all():
            raise Diverged(f"trajectory {number} of the fields blew up: raise the steps between frames")
        found.append(np.ascontiguousarray(frames))
    return np.ascontiguousarray(found)


def _advance(simulation: Simulation, steps: int) -> None:
    for _ in range(steps):
        simulation.step()


def check_source(source: Trajectories, domain: Domain, stride: int, table: EquationsTable) -> None:
    """Raises CaseError if frames are not on the points of the equations, or not as far apart as they say."""
    if not same(source.domain.describe(), domain.describe()):
        here, there = (" x ".join(map(str, d.shape)) for d in (domain, source.domain))
        raise CaseError(
            f"[equations] case = '{table.case}' has {here} points, the data {there}, or other coordinates or ends: "
            "the residual is that of one grid"
        )
    if not math.isclose(source.step * stride, table.interval, rel_tol=1e-3):
        raise CaseError(
            f"[equations] interval = {table.interval:g}: the frames of the data are {source.step * stride:g} apart "
            "(the step of the file times [data] stride)"
        )
